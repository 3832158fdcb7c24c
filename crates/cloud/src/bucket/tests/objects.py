import base64, hashlib, os, zlib
from datetime import datetime, timedelta, timezone
from botocore.config import Config

# Put, head, get.
body = b"hello, world"
put = s3.put_object(Bucket=B, Key="plain.txt", Body=body, ContentType="text/plain", CacheControl="max-age=5",
                    ContentDisposition="inline", ContentEncoding="identity", ContentLanguage="en",
                    Expires=datetime(2030, 1, 2, tzinfo=timezone.utc), Metadata={"author": "cat", "city": "Zurich"})
etag = '"' + hashlib.md5(body).hexdigest() + '"'
assert put["ETag"] == etag, put
assert put["ChecksumCRC32"] == base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(), put
head = s3.head_object(Bucket=B, Key="plain.txt", ChecksumMode="ENABLED")
assert head["ContentLength"] == len(body) and head["ContentType"] == "text/plain" and head["ETag"] == etag
assert head["Metadata"]["author"] == "cat", head
assert head["CacheControl"] == "max-age=5" and head["ContentDisposition"] == "inline"
assert head["ContentLanguage"] == "en" and head["ContentEncoding"] == "identity"
assert head["Expires"].year == 2030
assert head["ChecksumCRC32"] == put["ChecksumCRC32"] and head["ChecksumType"] == "FULL_OBJECT"
assert abs(datetime.now(timezone.utc) - head["LastModified"]) < timedelta(minutes=1)
got = s3.get_object(Bucket=B, Key="plain.txt")
assert got["Body"].read() == body and got["AcceptRanges"] == "bytes"
assert s3.get_object(Bucket=B, Key="plain.txt", ResponseContentType="x/y")["ContentType"] == "x/y"

# Ranges.
for range, expected in [("bytes=0-4", b"hello"), ("bytes=7-", b"world"), ("bytes=-5", b"world"), ("bytes=7-99", b"world")]:
    got = s3.get_object(Bucket=B, Key="plain.txt", Range=range)
    assert got["Body"].read() == expected and got["ResponseMetadata"]["HTTPStatusCode"] == 206, range
assert got["ContentRange"] == "bytes 7-11/12", got["ContentRange"]
fails("InvalidRange", s3.get_object, Bucket=B, Key="plain.txt", Range="bytes=12-")

# Conditions.
assert fails("304", s3.get_object, Bucket=B, Key="plain.txt", IfNoneMatch=etag)
assert fails("PreconditionFailed", s3.get_object, Bucket=B, Key="plain.txt", IfMatch='"x"')
s3.get_object(Bucket=B, Key="plain.txt", IfMatch=etag)
fails("304", s3.get_object, Bucket=B, Key="plain.txt", IfModifiedSince=datetime.now(timezone.utc))
fails("PreconditionFailed", s3.put_object, Bucket=B, Key="plain.txt", Body=b"x", IfNoneMatch="*")
s3.put_object(Bucket=B, Key="once", Body=b"x", IfNoneMatch="*")

# Every checksum is verified and given back; a wrong one is refused.
def crc(polynomial, width, data):
    """A reflected CRC, bit by bit: the client's own CRC32C and CRC64NVME need a native library."""
    mask = (1 << width) - 1
    value = mask
    for byte in data:
        value ^= byte
        for _ in (1,) * 8:
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
    return (value ^ mask).to_bytes(width // 8, "big")


sums = {
    "CRC32": zlib.crc32(body).to_bytes(4, "big"),
    "CRC32C": crc(0x82F63B78, 32, body),
    "CRC64NVME": crc(0x9A6C9329AC4BC9B5, 64, body),
    "SHA1": hashlib.sha1(body).digest(),
    "SHA256": hashlib.sha256(body).digest(),
}
for name, sum in sums.items():
    value = {"Checksum" + name: base64.b64encode(sum).decode()}
    put = s3.put_object(Bucket=B, Key="sum " + name, Body=body, **value)
    head = s3.head_object(Bucket=B, Key="sum " + name, ChecksumMode="ENABLED")
    assert value.items() <= put.items() and value.items() <= head.items(), (put, head)
    fails("BadDigest", s3.put_object, Bucket=B, Key="sum " + name, Body=b"other", **value)
for name in ["CRC32", "SHA1", "SHA256"]:
    put = s3.put_object(Bucket=B, Key="by the client", Body=body, ChecksumAlgorithm=name)
    assert put["Checksum" + name] == base64.b64encode(sums[name]).decode(), put
sha = base64.b64encode(hashlib.sha256(body).digest()).decode()
s3.put_object(Bucket=B, Key="given", Body=body, ChecksumSHA256=sha)
fails("BadDigest", s3.put_object, Bucket=B, Key="given", Body=b"other", ChecksumSHA256=sha)
fails("BadDigest", s3.put_object, Bucket=B, Key="given", Body=b"other",
      ContentMD5=base64.b64encode(hashlib.md5(body).digest()).decode())
fails("InvalidDigest", s3.put_object, Bucket=B, Key="given", Body=b"other", ContentMD5="bm9wZQ==")
assert s3.get_object(Bucket=B, Key="given")["Body"].read() == body

# Signed chunks and unsigned payloads, and a client that sends no checksum.
for config in [Config(s3={"payload_signing_enabled": True}), Config(s3={"payload_signing_enabled": False}),
               Config(request_checksum_calculation="when_required"), Config(s3={"addressing_style": "path"})]:
    client = boto3.client("s3", config=config)
    large = os.urandom(300_000)
    client.put_object(Bucket=B, Key="large", Body=large)
    assert client.get_object(Bucket=B, Key="large")["Body"].read() == large
assert "ChecksumCRC64NVME" in boto3.client("s3", config=Config(request_checksum_calculation="when_required")).put_object(
    Bucket=B, Key="large", Body=large)

# Keys that look like something else.
strange = ["..", "../../etc/passwd", "a b+c", "ünï/ćødé 🎬", "k" * 1024, "a//b", "a&b=c?d#e", "%41", "trailing/", "'\"<>"]
for key in strange:
    s3.put_object(Bucket=B, Key="s/" + key if len(key) < 1000 else key, Body=key.encode())
for key in strange:
    key_ = "s/" + key if len(key) < 1000 else key
    assert s3.get_object(Bucket=B, Key=key_)["Body"].read() == key.encode(), key
listed = [o["Key"] for o in s3.list_objects_v2(Bucket=B, Prefix="s/")["Contents"]]
assert listed == sorted(("s/" + k for k in strange if len(k) < 1000), key=lambda k: k.encode()), listed
fails("KeyTooLongError", s3.put_object, Bucket=B, Key="k" * 1025, Body=b"")

# Listings: prefix, delimiter, pages of both kinds.
range_ = list(__import__("builtins").range(25))
for n in range_:
    s3.put_object(Bucket=B, Key=f"list/{n // 10}/{n:02}", Body=b"x" * n)
pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=B, Prefix="list/", PaginationConfig={"PageSize": 4}))
keys = [o["Key"] for p in pages for o in p.get("Contents", [])]
assert keys == [f"list/{n // 10}/{n:02}" for n in range_] and len(pages) == 7, (len(pages), keys)
assert pages[0]["KeyCount"] == 4 and pages[0]["IsTruncated"] and not pages[-1]["IsTruncated"]
sizes = [o["Size"] for p in pages for o in p["Contents"]]
assert sizes == list(range_)
folded = s3.list_objects_v2(Bucket=B, Prefix="list/", Delimiter="/")
assert [p["Prefix"] for p in folded["CommonPrefixes"]] == ["list/0/", "list/1/", "list/2/"] and "Contents" not in folded
after = s3.list_objects_v2(Bucket=B, Prefix="list/", StartAfter="list/2/22", FetchOwner=True)
assert [o["Key"] for o in after["Contents"]] == ["list/2/23", "list/2/24"] and after["Contents"][0]["Owner"]
pages = list(s3.get_paginator("list_objects").paginate(Bucket=B, Prefix="list/", Delimiter="/", PaginationConfig={"PageSize": 2}))
assert [c["Prefix"] for p in pages for c in p.get("CommonPrefixes", [])] == ["list/0/", "list/1/", "list/2/"]
assert s3.list_objects_v2(Bucket=B, Prefix="nothing")["KeyCount"] == 0

# Copies.
copied = s3.copy_object(Bucket=B, Key="copy", CopySource={"Bucket": B, "Key": "plain.txt"})
assert copied["CopyObjectResult"]["ETag"] == etag
assert s3.head_object(Bucket=B, Key="copy")["Metadata"]["author"] == "cat"
s3.copy_object(Bucket=B, Key="copy", CopySource={"Bucket": B, "Key": "s/ünï/ćødé 🎬"}, MetadataDirective="REPLACE",
               Metadata={"new": "1"})
assert s3.head_object(Bucket=B, Key="copy")["Metadata"] == {"new": "1"}
fails("InvalidRequest", s3.copy_object, Bucket=B, Key="copy", CopySource={"Bucket": B, "Key": "copy"})
s3.copy_object(Bucket=B, Key="copy", CopySource={"Bucket": B, "Key": "copy"}, MetadataDirective="REPLACE", Metadata={"n": "2"})
fails("NoSuchKey", s3.copy_object, Bucket=B, Key="copy", CopySource={"Bucket": B, "Key": "nothing"})

# Presigned URLs.
from urllib.error import HTTPError
from urllib.request import Request, urlopen
for version in ["s3", "s3v4"]:
    client = boto3.client("s3", config=Config(signature_version=version))
    url = client.generate_presigned_url("get_object", Params={"Bucket": B, "Key": "plain.txt"}, ExpiresIn=60)
    assert urlopen(url).read() == body
    url = client.generate_presigned_url("put_object", Params={"Bucket": B, "Key": "presigned"}, ExpiresIn=60)
    # Without a type, which version 2 would have to sign and urllib makes up.
    request = Request(url, data=b"by url", method="PUT", headers={"Content-Type": ""})
    assert urlopen(request).status == 200
    assert s3.get_object(Bucket=B, Key="presigned")["Body"].read() == b"by url"
    expired = client.generate_presigned_url("get_object", Params={"Bucket": B, "Key": "plain.txt"}, ExpiresIn=-60)
    try:
        urlopen(expired)
        raise AssertionError("an expired URL was answered")
    except HTTPError as error:
        assert error.code in (400, 403), error

# Deletions.
s3.delete_object(Bucket=B, Key="plain.txt")
s3.delete_object(Bucket=B, Key="plain.txt")
fails("NoSuchKey", s3.get_object, Bucket=B, Key="plain.txt")
fails("404", s3.head_object, Bucket=B, Key="plain.txt")
gone = s3.delete_objects(Bucket=B, Delete={"Objects": [{"Key": k} for k in keys] + [{"Key": "nothing"}]})
assert len(gone["Deleted"]) == 26 and "Errors" not in gone
assert s3.list_objects_v2(Bucket=B, Prefix="list/")["KeyCount"] == 0

# Buckets.
assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == [B]
assert s3.head_bucket(Bucket=B)["BucketRegion"] == "us-east-1"
assert s3.get_bucket_location(Bucket=B)["LocationConstraint"] is None
assert "Status" not in s3.get_bucket_versioning(Bucket=B)
