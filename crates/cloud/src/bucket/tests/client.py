"""What each script with boto3 begins with: the bucket, the client, and what refusals are checked by."""
import boto3
from botocore.exceptions import ClientError

B = "photos"
s3 = boto3.client("s3")


def fails(code, call, *args, **kwargs):
    """The answer of a call that must fail with this code, or with one of these."""
    try:
        call(*args, **kwargs)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found in (code if isinstance(code, tuple) else (code,)), (found, error)
        return error.response
    raise AssertionError(f"{code} expected of {call}")


def refusal(code, call, *args, **kwargs):
    """What such an answer says."""
    return fails(code, call, *args, **kwargs)["Error"].get("Message", "")


