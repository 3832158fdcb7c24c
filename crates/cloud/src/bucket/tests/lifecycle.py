import datetime


def refused(code, rules):
    return refusal(code, s3.put_bucket_lifecycle_configuration, Bucket=B, LifecycleConfiguration={"Rules": rules})


def rule(**kwargs):
    return {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}} | kwargs


try:
    s3.get_bucket_lifecycle_configuration(Bucket=B)
    raise AssertionError("there is none")
except ClientError as error:
    assert error.response["Error"]["Code"] == "NoSuchLifecycleConfiguration"
s3.put_object(Bucket=B, Key="logs/a", Body=b"x")
assert "Expiration" not in s3.head_object(Bucket=B, Key="logs/a")

midnight = datetime.datetime(2099, 1, 2, tzinfo=datetime.timezone.utc)
rules = [
    {"ID": "logs & more", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}},
    {"ID": "date", "Status": "Disabled", "Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Date": midnight}},
    {"ID": "all", "Status": "Enabled", "Filter": {"And": {
        "Prefix": "x", "Tags": [{"Key": "a", "Value": "b"}], "ObjectSizeGreaterThan": 1, "ObjectSizeLessThan": 9}},
     "Expiration": {"Days": 1}, "NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2}},
    {"ID": "small", "Status": "Enabled", "Filter": {"ObjectSizeLessThan": 9}, "Expiration": {"Days": 400}},
    {"ID": "older", "Status": "Enabled", "Prefix": "tmp/", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    {"ID": "markers", "Status": "Enabled", "Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
]
s3.put_bucket_lifecycle_configuration(Bucket=B, LifecycleConfiguration={"Rules": rules})
found = s3.get_bucket_lifecycle_configuration(Bucket=B)["Rules"]
assert found == rules, found

# Clients are told when an object will go, by the rule that comes first.
for answer in (s3.head_object(Bucket=B, Key="logs/a"), s3.get_object(Bucket=B, Key="logs/a"),
               s3.put_object(Bucket=B, Key="logs/b", Body=b"x"),
               s3.copy_object(Bucket=B, Key="logs/c", CopySource=f"{B}/logs/a")):
    date, by = answer["Expiration"].split(", rule-id=")
    assert by == '"logs%20%26%20more"', by
    when = datetime.datetime.strptime(date, 'expiry-date="%a, %d %b %Y 00:00:00 GMT"')
    assert 30 <= (when - datetime.datetime.utcnow()).days + 1 <= 31, when
assert "small" in s3.put_object(Bucket=B, Key="other", Body=b"x")["Expiration"]
assert "Expiration" not in s3.put_object(Bucket=B, Key="other", Body=b"x" * 10)
begun = s3.create_multipart_upload(Bucket=B, Key="tmp/a")
assert begun["AbortRuleId"] == "older" and begun["AbortDate"].hour == 0, begun
assert "AbortDate" not in s3.create_multipart_upload(Bucket=B, Key="a")

# What is not valid changes nothing.
assert "Transition" in refused("NotImplemented", [rule(Transitions=[{"Days": 1, "StorageClass": "GLACIER"}])])
assert "NoncurrentVersionTransition" in refused("NotImplemented", [rule(
    NoncurrentVersionTransitions=[{"NoncurrentDays": 1, "StorageClass": "GLACIER"}])])
refused("InvalidArgument", [rule(Expiration={"Days": 0})])
refused("InvalidArgument", [rule(Expiration={"Date": midnight + datetime.timedelta(hours=1)})])
refused("InvalidArgument", [rule(), rule()])
refused("MalformedXML", [rule(Status="Sometimes")])
refused("MalformedXML", [rule(Prefix="x")])
refused("MalformedXML", [rule(Expiration={"Days": 1, "Date": midnight})])
refused("MalformedXML", [rule(Filter={"Prefix": "a", "ObjectSizeLessThan": 9})])
refused("InvalidArgument", [{"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}}])
refused("InvalidArgument", [rule(Filter={"ObjectSizeLessThan": 9}, AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1})])
assert s3.get_bucket_lifecycle_configuration(Bucket=B)["Rules"] == rules
s3.delete_bucket_lifecycle(Bucket=B)
s3.delete_bucket_lifecycle(Bucket=B)
assert "Expiration" not in s3.head_object(Bucket=B, Key="logs/a")
