"""Conditional requests: each combination that S3 documents, with dates."""
from datetime import datetime, timedelta, timezone


def attempt(call, **kwargs):
    """The status, and 412, 304 and so on for an error."""
    try:
        return call(**kwargs)["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]


put = s3.put_object(Bucket=B, Key="a", Body=b"hello")
YES, NO = put["ETag"], '"00000000000000000000000000000000"'
modified = s3.head_object(Bucket=B, Key="a")["LastModified"]
EARLIER, LATER = modified - timedelta(hours=1), modified + timedelta(hours=1)

# Reading: RFC 9110, section 13.2.2, and S3's tables.
for kwargs, expected in [
    (dict(IfMatch=YES), 200), (dict(IfMatch=NO), 412), (dict(IfMatch="*"), 200),
    (dict(IfNoneMatch=YES), 304), (dict(IfNoneMatch=NO), 200), (dict(IfNoneMatch="*"), 304),
    (dict(IfModifiedSince=EARLIER), 200), (dict(IfModifiedSince=modified), 304), (dict(IfModifiedSince=LATER), 304),
    (dict(IfUnmodifiedSince=EARLIER), 412), (dict(IfUnmodifiedSince=modified), 200), (dict(IfUnmodifiedSince=LATER), 200),
    (dict(IfMatch=YES, IfUnmodifiedSince=EARLIER), 200), (dict(IfMatch=NO, IfUnmodifiedSince=LATER), 412),
    (dict(IfNoneMatch=YES, IfModifiedSince=EARLIER), 304), (dict(IfNoneMatch=NO, IfModifiedSince=LATER), 200),
    (dict(IfMatch=YES, IfNoneMatch=YES), 304), (dict(IfMatch=NO, IfNoneMatch=YES), 412),
    (dict(IfMatch=YES, IfNoneMatch=NO, Range="bytes=0-1"), 206),
]:
    for call in [s3.get_object, s3.head_object]:
        assert attempt(call, Bucket=B, Key="a", **kwargs) == expected, (call, kwargs, expected)
try:
    s3.get_object(Bucket=B, Key="a", IfNoneMatch=YES)
except ClientError as error:
    headers = error.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["etag"] == YES and headers["last-modified"], headers

# The source of a copy, and of a part.
upload = s3.create_multipart_upload(Bucket=B, Key="parts")
at = dict(Bucket=B, Key="parts", UploadId=upload["UploadId"], PartNumber=1)
source = {"Bucket": B, "Key": "a"}
for kwargs, expected in [
    (dict(CopySourceIfMatch=YES), 200), (dict(CopySourceIfMatch=NO), 412),
    (dict(CopySourceIfNoneMatch=YES), 412), (dict(CopySourceIfNoneMatch=NO), 200),
    (dict(CopySourceIfModifiedSince=EARLIER), 200), (dict(CopySourceIfModifiedSince=LATER), 412),
    (dict(CopySourceIfUnmodifiedSince=EARLIER), 412), (dict(CopySourceIfUnmodifiedSince=LATER), 200),
    (dict(CopySourceIfMatch=YES, CopySourceIfUnmodifiedSince=EARLIER), 200),
    (dict(CopySourceIfNoneMatch=YES, CopySourceIfModifiedSince=EARLIER), 412),
    (dict(CopySourceIfNoneMatch=NO, CopySourceIfModifiedSince=LATER), 200),
]:
    assert attempt(s3.copy_object, Bucket=B, Key="copy", CopySource=source, **kwargs) == expected, kwargs
    assert attempt(s3.upload_part_copy, **at, CopySource=source, **kwargs) == expected, kwargs


def with_header(name, value):
    """A client that adds a header which its model does not have."""
    client = boto3.client("s3")
    client.meta.events.register("before-sign.s3.CopyObject", lambda request, **_: request.headers.add_header(name, value))
    return client


# What is written to: by put, by copy, by completion.
def complete(key, **kwargs):
    begun = s3.create_multipart_upload(Bucket=B, Key=key)
    to = dict(Bucket=B, Key=key, UploadId=begun["UploadId"])
    part = s3.upload_part(**to, PartNumber=1, Body=b"hello")["ETag"]
    status = attempt(s3.complete_multipart_upload, **to, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]}, **kwargs)
    if status != 200:
        s3.abort_multipart_upload(**to)
    return status


def write_each(key, header, kwargs, expected):
    assert attempt(s3.put_object, Bucket=B, Key=key, Body=b"hello", **kwargs) == expected, (key, kwargs)
    client = with_header(*header)
    assert attempt(client.copy_object, Bucket=B, Key=key, CopySource={"Bucket": B, "Key": "copy"}) == expected, (key, header)


for versioned in [False, True]:
    s3.put_object(Bucket=B, Key="there", Body=b"hello")
    write_each("there", ("If-Match", YES), dict(IfMatch=YES), 200)
    write_each("there", ("If-Match", NO), dict(IfMatch=NO), 412)
    write_each("there", ("If-None-Match", "*"), dict(IfNoneMatch="*"), 412)
    write_each("there", ("If-None-Match", YES), dict(IfNoneMatch=YES), 501)
    write_each(f"absent {versioned}", ("If-Match", YES), dict(IfMatch=YES), 404)
    assert complete("there", IfNoneMatch="*") == 412 and complete("there", IfMatch=NO) == 412
    assert complete(f"new {versioned}", IfNoneMatch="*") == 200 and complete(f"absent {versioned}", IfMatch=YES) == 404
    assert attempt(s3.put_object, Bucket=B, Key=f"fresh {versioned}", Body=b"hello", IfNoneMatch="*") == 200
    client = with_header("If-None-Match", "*")
    assert attempt(client.copy_object, Bucket=B, Key=f"copied {versioned}", CopySource=source) == 200
    # Deletions.
    s3.put_object(Bucket=B, Key="there", Body=b"hello")
    assert attempt(s3.delete_object, Bucket=B, Key="there", IfMatch=NO) == 412
    assert attempt(s3.delete_object, Bucket=B, Key=f"absent {versioned}", IfMatch="*") == 412
    assert attempt(s3.delete_object, Bucket=B, Key="there", IfMatch="*") == 204
    s3.put_object(Bucket=B, Key="there", Body=b"hello")
    assert attempt(s3.delete_object, Bucket=B, Key="there", IfMatch=YES) == 204
    # A delete marker is as good as nothing.
    assert attempt(s3.put_object, Bucket=B, Key="there", Body=b"hello", IfMatch=YES) == 404
    assert attempt(s3.put_object, Bucket=B, Key="there", Body=b"hello", IfNoneMatch="*") == 200
    gone = s3.delete_objects(Bucket=B, Delete={"Objects": [{"Key": "there", "ETag": NO}, {"Key": "copy", "ETag": YES}]})
    assert [d["Key"] for d in gone["Deleted"]] == ["copy"] and gone["Errors"][0]["Code"] == "PreconditionFailed", gone
    s3.put_object(Bucket=B, Key="copy", Body=b"hello")
    s3.put_bucket_versioning(Bucket=B, VersioningConfiguration={"Status": "Enabled"})
