import os, urllib.request, uuid


def arn(name):
    return f"arn:aws:lambda:us-east-1:000000000000:function:{name}"


def notification(function="resize", events=("s3:ObjectCreated:*",), id=None, **filter):
    rules = [{"Name": name, "Value": value} for name, value in filter.items()]
    return ({"LambdaFunctionArn": arn(function), "Events": list(events)}
            | ({"Id": id} if id else {}) | ({"Filter": {"Key": {"FilterRules": rules}}} if rules else {}))


def put(*functions, bucket=B, **others):
    configuration = ({"LambdaFunctionConfigurations": list(functions)} if functions else {}) | others
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)


def get(bucket=B):
    found = s3.get_bucket_notification_configuration(Bucket=bucket)
    assert {name for name in found if name.endswith("Configurations")} <= {"LambdaFunctionConfigurations"}, found
    return found.get("LambdaFunctionConfigurations", [])


def refused(code, words, *functions, **others):
    message = refusal(code, put, *functions, **others)
    assert words in message, (words, message)


# What is put comes back as it was, replaces what was there, and goes.
assert get() == []
full = notification(id="thumbs", events=["s3:ObjectCreated:Put", "s3:ObjectRemoved:*"], prefix="in/", suffix=".jpg")
put(full, notification("index", ["s3:ObjectRemoved:*"], "index", suffix=".txt"))
assert get() == [full, notification("index", ["s3:ObjectRemoved:*"], "index", suffix=".txt")], get()
put(notification())
made = get()
assert len(made) == 1 and made[0].pop("Id") and made == [notification()], made
put()
put()
assert get() == []
latest = notification(id="x")
latest["LambdaFunctionArn"] += ":$LATEST"
put(latest)
assert get() == [latest]

# What is refused leaves what was there.
refused("InvalidArgument", "no function `nobody` in the stack `shop/dev`", notification("nobody"))
refused("InvalidArgument", "no function `theirs` in the stack `shop/dev`", notification("theirs"))
for wrong in ("resize", "arn:aws:sqs:us-east-1:000000000000:q", arn("resize") + ":v2", arn(""), "arn:aws:s3:::photos"):
    refused("InvalidArgument", "is not the ARN of a function", notification() | {"LambdaFunctionArn": wrong})
refused("InvalidArgument", "`s3:ObjectCreated:Move` is not an event", notification(events=["s3:ObjectCreated:Move"]))
refused("InvalidArgument", "`s3:*` is not an event", notification(events=["s3:*"]))
for never in ("s3:ObjectTagging:Put", "s3:ObjectRestore:*", "s3:ReducedRedundancyLostObject", "s3:ObjectAcl:Put"):
    refused("NotImplemented", f"the event {never} is not supported", notification(events=[never]))
refused("InvalidArgument", "`one` and `two` overlap", notification(id="one"),
      notification("index", ["s3:ObjectCreated:Put"], "two", prefix="a/"))
refused("InvalidArgument", "the id `one` is given twice", notification(id="one", prefix="a"), notification(id="one", prefix="b"))
refused("InvalidArgument", "at most 255 characters", notification(id="x" * 256))
refused("InvalidArgument", "at most 1024 bytes", notification(prefix="x" * 1025))
refused("InvalidArgument", "at most 100", *(notification(prefix=f"{n:03}") for n in range(101)))
refused("InvalidArgument", "either prefix or suffix", notification(infix="x"))
refused("InvalidArgument", "more than one", notification(prefix="x", Prefix="y"))
events = ["s3:ObjectCreated:*"]
for name, wanted in [
    ("TopicConfiguration", {"TopicConfigurations": [{"TopicArn": "arn:aws:sns:us-east-1:000000000000:t", "Events": events}]}),
    ("EventBridgeConfiguration", {"EventBridgeConfiguration": {}}),
]:
    refused("NotImplemented", f"{name} is not supported: name a function", notification(), **wanted)
for call in (put, get):
    fails("NoSuchBucket", call, bucket="nothing-here")
assert get() == [latest]

# Each way to write and to remove, of names that a handler must decode.
put(notification(id="written", prefix="in/"), notification("index", ["s3:ObjectRemoved:*"], "removed"))
KEY = "in/red flower+é.jpg"
s3.put_object(Bucket=B, Key=KEY, Body=b"hello")
s3.put_object(Bucket=B, Key="out/nobody asks", Body=b"hello")
s3.copy_object(Bucket=B, Key="in/copy", CopySource={"Bucket": B, "Key": KEY})
upload = s3.create_multipart_upload(Bucket=B, Key="in/parts")["UploadId"]
part = s3.upload_part(Bucket=B, Key="in/parts", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
s3.complete_multipart_upload(Bucket=B, Key="in/parts", UploadId=upload,
                             MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
form = s3.generate_presigned_post(B, "in/form")
boundary = uuid.uuid4().hex
body = "".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
               for name, value in (form["fields"] | {"file": "x"}).items()) + f"--{boundary}--\r\n"
urllib.request.urlopen(urllib.request.Request(form["url"], body.encode(), {
    "Content-Type": f"multipart/form-data; boundary={boundary}"}))
s3.delete_object(Bucket=B, Key=KEY)
s3.put_bucket_versioning(Bucket=B, VersioningConfiguration={"Status": "Enabled"})
version = s3.put_object(Bucket=B, Key="in/v", Body=b"")["VersionId"]
s3.delete_object(Bucket=B, Key="in/v")
s3.delete_object(Bucket=B, Key="in/v", VersionId=version)

# A bucket that a client made, and one more event that nobody asks for any more.
s3.create_bucket(Bucket="mine")
put(notification(), bucket="mine")
s3.put_object(Bucket="mine", Key="a", Body=b"")
put(bucket="mine")
s3.put_object(Bucket="mine", Key="b", Body=b"")
