import datetime, os, urllib.error, urllib.request
from unittest import mock
from botocore.config import Config

v2 = boto3.client("s3", config=Config(signature_version="s3"))
v4 = boto3.client("s3", config=Config(signature_version="s3v4"))


def send(url, method="GET", body=None, **headers):
    # Version 2 signs the type of a body, and this library would make one up.
    headers = {"Content-Type": ""} | {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, data=body, method=method, headers=headers))
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.read().decode()


def refused(code, *args, **kwargs):
    status, body = send(*args, **kwargs)
    assert status >= 400 and f"<Code>{code}</Code>" in body, (code, status, body)


def at(minutes):
    """As if the client's clock were off by so much."""
    time = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    return mock.patch("botocore.auth.get_current_datetime", lambda *a, **k: time.replace(tzinfo=None))


def url(client, call="get_object", seconds=3600, **kwargs):
    return client.generate_presigned_url(call, {"Bucket": B, "Key": "a b/ü"} | kwargs, ExpiresIn=seconds)


for client in (v2, v4):
    assert send(url(client, "put_object"), "PUT", b"x")[0] == 200
    assert send(url(client)) == (200, "x")
    assert send(url(client, ResponseContentType="text/x-mine")) == (200, "x")
    # Another method, another key, a changed query.
    refused("SignatureDoesNotMatch", url(client), "DELETE")
    refused("SignatureDoesNotMatch", url(client), "PUT", b"y")
    refused("SignatureDoesNotMatch", url(client).replace("/a%20b/", "/c/"))
    refused("SignatureDoesNotMatch", url(client) + "&response-content-type=text/html")
    refused("AccessDenied", url(client, Bucket="secrets"))
    refused("NoSuchKey", url(client, Key="nothing"))

# Too late, and a clock that runs ahead.
refused("AccessDenied", url(v2, seconds=-1))
with at(minutes=-61):
    late = url(v4)
refused("AccessDenied", late)
with at(minutes=-59):
    assert send(url(v4)) == (200, "x")
with at(minutes=20):
    ahead = url(v4)
refused("RequestTimeTooSkewed", ahead)
with at(minutes=10):
    assert send(url(v4)) == (200, "x")

# A request that is signed in its header has fifteen minutes, both ways.
for minutes in (-20, 20):
    with at(minutes):
        try:
            v4.get_object(Bucket=B, Key="a b/ü")
        except v4.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "RequestTimeTooSkewed", error
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        else:
            raise AssertionError(f"{minutes} minutes are too much")
for minutes in (-14, 14):
    with at(minutes):
        v4.get_object(Bucket=B, Key="a b/ü")

# Longer than a week, or without an end, is no presigned URL.
refused("AuthorizationQueryParametersError", url(v4, seconds=604_801))
refused("AuthorizationQueryParametersError", url(v4).replace("X-Amz-Expires=3600&", ""))
# What the signature covers must come as it was signed.
typed = url(v4, "put_object", ContentType="text/plain")
assert send(typed, "PUT", b"x", Content_Type="text/plain")[0] == 200
refused("SignatureDoesNotMatch", typed, "PUT", b"x", Content_Type="text/html")
