import os, urllib.error, urllib.request
from botocore.config import Config

s3 = boto3.client("s3", config=Config(signature_version="s3v4"))
URL = os.environ["AWS_ENDPOINT_URL"]


def send(method, url, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers))
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.headers, answer.read().decode()


def ask(origin, method, headers=None, url=f"{URL}/{B}/a"):
    asked = {"Origin": origin, "Access_Control_Request_Method": method}
    if headers:
        asked["Access_Control_Request_Headers"] = headers
    return send("OPTIONS", url, **asked)


s3.put_object(Bucket=B, Key="a", Body=b"x")
fails("NoSuchCORSConfiguration", s3.get_bucket_cors, Bucket=B)
status, _, body = ask("https://a.example", "GET")
assert status == 403 and "AccessForbidden" in body and "not enabled" in body, body

rules = [
    {"ID": "uploads", "AllowedOrigins": ["https://*.example"], "AllowedMethods": ["PUT", "POST"],
     "AllowedHeaders": ["content-*", "x-amz-meta-*"], "ExposeHeaders": ["ETag", "x-amz-request-id"], "MaxAgeSeconds": 600},
    {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]},
]
s3.put_bucket_cors(Bucket=B, CORSConfiguration={"CORSRules": rules})
assert s3.get_bucket_cors(Bucket=B)["CORSRules"] == rules
fails("InvalidRequest", s3.put_bucket_cors, Bucket=B,
      CORSConfiguration={"CORSRules": [{"AllowedOrigins": ["*"], "AllowedMethods": ["PATCH"]}]})
assert s3.get_bucket_cors(Bucket=B)["CORSRules"] == rules

# A browser asks before, also with the query of a presigned URL.
url = s3.generate_presigned_url("put_object", {"Bucket": B, "Key": "a"})
status, headers, body = ask("https://a.example", "PUT", "content-type, X-Amz-Meta-Colour", url)
assert status == 200 and body == "", (status, body)
assert headers["Access-Control-Allow-Origin"] == "https://a.example"
assert headers["Access-Control-Allow-Credentials"] == "true"
assert headers["Access-Control-Allow-Methods"] == "PUT, POST"
assert headers["Access-Control-Allow-Headers"] == "content-type, X-Amz-Meta-Colour"
assert headers["Access-Control-Expose-Headers"] == "ETag, x-amz-request-id"
assert headers["Access-Control-Max-Age"] == "600"
assert "Origin" in headers["Vary"]
status, headers, _ = ask("https://elsewhere", "GET")
assert status == 200 and headers["Access-Control-Allow-Origin"] == "*" and "Access-Control-Allow-Credentials" not in headers
for refused in (ask("https://elsewhere", "PUT"), ask("https://a.example", "PUT", "authorization"),
                ask("https://a.example", "GET", "content-type"), ask("https://a.example", "DELETE")):
    assert refused[0] == 403 and "AccessForbidden" in refused[2], refused
    assert "Access-Control-Allow-Origin" not in refused[1]
assert ask("https://a.example", "GET", url=f"{URL}/nothing-here/a")[0] == 403
assert send("OPTIONS", f"{URL}/{B}/a")[0] == 400
assert send("OPTIONS", f"{URL}/{B}/a", Origin="https://a.example")[0] == 400

# And is told with every answer, also one that refuses; a client that is no browser is told nothing.
read = s3.generate_presigned_url("get_object", {"Bucket": B, "Key": "a"})
status, headers, body = send("GET", read, Origin="https://a.example")
assert status == 200 and body == "x" and headers["Access-Control-Allow-Origin"] == "*"
status, headers, _ = send("GET", f"{URL}/{B}/a", Origin="https://a.example")
assert status == 403 and headers["Access-Control-Allow-Origin"] == "*"
assert "Access-Control-Allow-Origin" not in send("GET", read)[1]
status, headers, _ = send("DELETE", f"{URL}/{B}/a", Origin="https://a.example")
assert status == 403 and "Access-Control-Allow-Origin" not in headers

s3.delete_bucket_cors(Bucket=B)
fails("NoSuchCORSConfiguration", s3.get_bucket_cors, Bucket=B)
assert "Access-Control-Allow-Origin" not in send("GET", read, Origin="https://a.example")[1]
