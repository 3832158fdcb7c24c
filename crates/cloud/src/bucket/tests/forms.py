import base64, datetime, hashlib, hmac, json, os, re, uuid, urllib.error, urllib.request
from urllib.parse import parse_qs, urlsplit
from botocore.config import Config

URL = f"{os.environ['AWS_ENDPOINT_URL']}/{B}"
KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
v2 = boto3.client("s3", config=Config(signature_version="s3"))
v4 = boto3.client("s3", config=Config(signature_version="s3v4"))


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


opener = urllib.request.build_opener(Stay)


def post(fields, file=b"a picture", name="cat.jpg", url=URL, tail=b""):
    boundary = uuid.uuid4().hex
    body = b""
    for field, value in fields.items() if isinstance(fields, dict) else fields:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
    if file is not None:
        body += (f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
                 "Content-Type: image/jpeg\r\n\r\n").encode() + file + b"\r\n"
    body += tail + f"--{boundary}--\r\n".encode()
    return send(body, f"multipart/form-data; boundary={boundary}", url)


def send(body, kind, url=URL):
    request = urllib.request.Request(url, data=body, method="POST", headers={"Content-Type": kind})
    try:
        answer = opener.open(request)
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.headers, answer.read().decode()


def refused(code, *args, **kwargs):
    status, _, body = post(*args, **kwargs)
    assert status >= 400 and f"<Code>{code}</Code>" in body, (status, body)
    return body


def get(key):
    return v4.get_object(Bucket=B, Key=key)


# Both schemes; the file's name goes into the key, and what comes behind the file is ignored.
for client in (v2, v4):
    form = client.generate_presigned_post(B, "uploads/${filename}")
    assert form["url"].rstrip("/") == URL, form
    status, headers, body = post(form["fields"], tail=b"")
    assert status == 204 and body == "", (status, body)
    assert headers["ETag"] == f'"{hashlib.md5(b"a picture").hexdigest()}"'
    assert get("uploads/cat.jpg")["Body"].read() == b"a picture"
post(form["fields"], name="C:\\\\pictures\\\\dog.jpg")
assert get("uploads/dog.jpg")["Body"].read() == b"a picture"

# A large one goes through, and what the form says of it stays with it.
large = os.urandom((20 << 20) + 1)
said = {"Content-Type": "image/png", "Cache-Control": "no-store", "x-amz-meta-from": "a form", "acl": "private",
        "success_action_status": "201"}
form = v4.generate_presigned_post(B, "large & <more>", Fields=said, Conditions=[{k: v} for k, v in said.items()])
status, headers, body = post(form["fields"], large)
assert status == 201 and "<Key>large &amp; &lt;more&gt;</Key>" in body and f"<Bucket>{B}</Bucket>" in body, (status, body)
found = get("large & <more>")
assert found["Body"].read() == large
assert (found["ContentType"], found["CacheControl"], found["Metadata"]) == ("image/png", "no-store", {"from": "a form"})

# Where a browser goes afterwards.
def redirecting(to):
    return v4.generate_presigned_post(B, "r/x", Fields={"success_action_redirect": to},
                                      Conditions=[{"success_action_redirect": to}])["fields"]
status, headers, _ = post(redirecting("https://example.com/done?a=b"))
to = urlsplit(headers["Location"])
assert status == 303 and to.netloc == "example.com", headers
assert parse_qs(to.query) == {"a": ["b"], "bucket": [B], "key": ["r/x"], "etag": [headers["ETag"]]}, to
assert post(redirecting("no address"))[0] == 204

# What the policy does not allow.
form = v4.generate_presigned_post(B, "exact", Conditions=[["content-length-range", 2, 5]])["fields"]
refused("EntityTooSmall", form, b"1")
refused("EntityTooLarge", form, b"123456")
assert post(form, b"12345")[0] == 204
assert "$key" in refused("AccessDenied", form | {"key": "other"}, b"123")
assert "Extra input fields: x-amz-meta-a" in refused("AccessDenied", form | {"x-amz-meta-a": "b"}, b"123")
refused("AccessDenied", v4.generate_presigned_post("mine", "exact")["fields"])
assert "expired" in refused("AccessDenied", v4.generate_presigned_post(B, "late", ExpiresIn=-1)["fields"])
assert "public-read" not in [o["Key"] for o in v4.list_objects_v2(Bucket=B)["Contents"]]
public = v4.generate_presigned_post(B, "public", Fields={"acl": "public-read"}, Conditions=[{"acl": "public-read"}])
refused("NotImplemented", public["fields"])


# A form is good for as long as its policy says, however long ago it was signed.
def signed(days_ago, policy=None, **changed):
    time = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=days_ago)
    day, date = time.strftime("%Y%m%d"), time.strftime("%Y%m%dT%H%M%SZ")
    fields = {"key": "signed", "x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-date": date,
              "x-amz-credential": f"{KEY}/{day}/us-east-1/s3/aws4_request"} | changed
    end = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    policy = policy or json.dumps({"expiration": end, "conditions": [{k: v} for k, v in fields.items()] + [{"bucket": B}]})
    encoded = base64.b64encode(policy.encode()).decode()
    key = b"AWS4" + SECRET.encode()
    for part in (day, "us-east-1", "s3", "aws4_request", encoded):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return fields | {"policy": encoded, "x-amz-signature": key.hex()}


assert post(signed(2))[0] == 204
refused("SignatureDoesNotMatch", signed(0) | {"x-amz-signature": "0" * 64})
refused("SignatureDoesNotMatch", signed(0) | {"x-amz-signature": "x"})
refused("InvalidAccessKeyId", signed(0, **{"x-amz-credential": "AKIANOBODY/20260101/us-east-1/s3/aws4_request",
                                           "x-amz-date": "20260101T000000Z"}))
refused("InvalidPolicyDocument", signed(0, policy="{"))
refused("AccessDenied", {"key": "unsigned"})
refused("AccessDenied", v4.generate_presigned_post("secrets", "x")["fields"], url=URL.replace(B, "secrets"))
refused("NoSuchBucket", v4.generate_presigned_post("nothing-here", "x")["fields"], url=URL.replace(B, "nothing-here"))

# What is no form.
refused("UserKeyMustBeSpecified", {name: value for name, value in signed(0).items() if name != "key"})
refused("IncorrectNumberOfFilesInPostRequest", signed(0), None)
refused("MaxPostPreDataLengthExceededError", signed(0) | {"x-ignore-me": "x" * 21_000})
refused("MaxPostPreDataLengthExceededError", list(signed(0).items()) + [(f"x-ignore-{n}", "") for n in range(101)])
assert send(b"nonsense", "multipart/form-data; boundary=x")[0] == 400
assert send(b"nonsense", "multipart/form-data")[0] == 400
assert send(b"--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nsigned", "multipart/form-data; boundary=x")[0] == 400
assert post(signed(0), url=f"{URL}/a/b")[0] == 405
assert sorted(o["Key"] for o in v4.list_objects_v2(Bucket=B)["Contents"]) == sorted(
    ["uploads/cat.jpg", "uploads/dog.jpg", "large & <more>", "r/x", "exact", "signed"])
