import datetime, json, os
from unittest import mock
import boto3
from botocore.exceptions import ClientError


def client(service="lambda", **kwargs):
    return boto3.client(service, **kwargs)


def fails(code, call, **kwargs):
    try:
        call(**kwargs)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == code, (found, error)
        return error.response["Error"]["Message"]
    raise AssertionError(f"{code} expected")


answer = client().invoke(FunctionName="resize", Payload=b"{}", Qualifier="a b/ü")
assert json.load(answer["Payload"]) == {"who": "operator shop/dev", "function": "resize", "bytes": 2}
large = client().invoke(FunctionName="re:size", Payload=b"x" * 3_000_000)
assert json.load(large["Payload"])["bytes"] == 3_000_000

KEY = os.environ["AWS_ACCESS_KEY_ID"]
fails("InvalidSignatureException", client(aws_access_key_id=KEY, aws_secret_access_key="wrong").invoke, FunctionName="f")
fails("UnrecognizedClientException", client(aws_access_key_id="AKIAAAAAAAAAAAAAAAAA", aws_secret_access_key="x").invoke,
      FunctionName="f")
late = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
with mock.patch("botocore.auth.get_current_datetime", lambda *a, **k: late.replace(tzinfo=None)):
    assert "server's time" in fails("InvalidSignatureException", client().invoke, FunctionName="f")
assert "`dynamodb`" in fails("UnknownService", client("dynamodb").list_tables)
fails("RequestEntityTooLargeException", client().invoke, FunctionName="f", Payload=b"x" * (17 << 20))
