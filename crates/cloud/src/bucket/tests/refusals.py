import datetime, os
from unittest import mock
from botocore import UNSIGNED
from botocore.config import Config


def client(key, secret, **kwargs):
    return boto3.client("s3", aws_access_key_id=key, aws_secret_access_key=secret, **kwargs)


KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]

# Who asks.
assert "tandem env" in refusal("InvalidAccessKeyId", client("AKIAAAAAAAAAAAAAAAAA", SECRET).list_objects_v2, Bucket=B)
fails("SignatureDoesNotMatch", client(KEY, "wrong").list_objects_v2, Bucket=B)
fails("SignatureDoesNotMatch", client(KEY, "wrong").put_object, Bucket=B, Key="a", Body=b"x")
fails("AccessDenied", boto3.client("s3", config=Config(signature_version=UNSIGNED)).list_objects_v2, Bucket=B)
fails("InvalidRequest", boto3.client("s3", config=Config(signature_version="s3")).put_object, Bucket=B, Key="a", Body=b"x")
late = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
with mock.patch("botocore.auth.get_current_datetime", lambda *a, **k: late.replace(tzinfo=None)):
    fails("RequestTimeTooSkewed", s3.list_objects_v2, Bucket=B)

# What belongs to another stack.
fails("AccessDenied", s3.put_object, Bucket="secrets", Key="a", Body=b"x")
fails("AccessDenied", s3.list_objects_v2, Bucket="secrets")
other = client(os.environ["OTHER_ACCESS_KEY_ID"], os.environ["OTHER_SECRET_ACCESS_KEY"])
other.put_object(Bucket="secrets", Key="a", Body=b"x")
fails("AccessDenied", s3.copy_object, Bucket=B, Key="stolen", CopySource={"Bucket": "secrets", "Key": "a"})
upload = s3.create_multipart_upload(Bucket=B, Key="stolen")["UploadId"]
fails("AccessDenied", s3.upload_part_copy, Bucket=B, Key="stolen", UploadId=upload, PartNumber=1,
      CopySource={"Bucket": "secrets", "Key": "a"})
assert [b["Name"] for b in other.list_buckets()["Buckets"]] == ["secrets"]

# Buckets.
fails("NoSuchBucket", s3.list_objects_v2, Bucket="nothing-here")
fails("NoSuchBucket", s3.put_object, Bucket="nothing-here", Key="a", Body=b"x")
fails("404", s3.head_bucket, Bucket="nothing-here")
assert "tandem destroy" in refusal("MethodNotAllowed", s3.delete_bucket, Bucket=B)

# What is not supported says so by name.
assert "server-side" in refusal("NotImplemented", s3.put_object, Bucket=B, Key="a", Body=b"x", ServerSideEncryption="aws:kms")
assert "ACL" in refusal("NotImplemented", s3.put_object, Bucket=B, Key="a", Body=b"x", ACL="public-read")
assert "storage class" in refusal("NotImplemented", s3.put_object, Bucket=B, Key="a", Body=b"x", StorageClass="GLACIER")
assert "MfaDelete" in refusal("NotImplemented", s3.put_bucket_versioning, Bucket=B,
                            VersioningConfiguration={"Status": "Enabled", "MFADelete": "Enabled"})
assert "mfa" in refusal("NotImplemented", s3.delete_object, Bucket=B, Key="a", MFA="serial 123456")
# Of an object: each says which operation it is that there is not.
lock = dict(Bucket=B, Key="a")
for call, kwargs in [
    ("put_object_retention", {"Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.datetime(2040, 1, 1)}}),
    ("get_object_retention", {}),
    ("put_object_legal_hold", {"LegalHold": {"Status": "ON"}}),
    ("get_object_legal_hold", {}),
    ("restore_object", {"RestoreRequest": {"Days": 1}}),
    ("get_object_torrent", {}),
    ("select_object_content", {"Expression": "select *", "ExpressionType": "SQL", "InputSerialization": {"CSV": {}},
                               "OutputSerialization": {"CSV": {}}}),
]:
    name = "".join(word.title() for word in call.split("_"))
    assert name in refusal("NotImplemented", getattr(s3, call), **lock, **kwargs), name
for kwargs, word in [
    (dict(ObjectLockLegalHoldStatus="ON"), "object-lock"),
    (dict(ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=datetime.datetime(2040, 1, 1)), "object-lock"),
    (dict(WebsiteRedirectLocation="/x"), "website-redirect"),
    (dict(GrantRead="uri=x"), "grant"),
    (dict(SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32), "server-side"),
]:
    assert word in refusal("NotImplemented", s3.put_object, Bucket=B, Key="a", Body=b"x", **kwargs), word
    source = {"Bucket": B, "Key": "a"}
    assert word in refusal("NotImplemented", s3.copy_object, Bucket=B, Key="b", CopySource=source, **kwargs), word
    assert word in refusal("NotImplemented", s3.create_multipart_upload, Bucket=B, Key="b", **kwargs), word
fails("MetadataTooLarge", s3.put_object, Bucket=B, Key="a", Body=b"x", Metadata={"a": "x" * 2100})
fails("InvalidArgument", s3.list_objects_v2, Bucket=B, ContinuationToken="???")
fails("404", s3.head_object, Bucket=B, Key="a")

# After all of it, it still works.
s3.put_object(Bucket=B, Key="a", Body=b"x", ACL="private", StorageClass="STANDARD")
assert s3.list_objects_v2(Bucket=B)["KeyCount"] == 1
