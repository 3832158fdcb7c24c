"""Tags of objects, and what GetObjectAttributes, partNumber and the response- parameters answer."""
import base64, hashlib, os, zlib
from datetime import datetime, timezone
from urllib.request import urlopen

MIB = 1 << 20


def tags(key, **kwargs):
    return {t["Key"]: t["Value"] for t in s3.get_object_tagging(Bucket=B, Key=key, **kwargs)["TagSet"]}


def count(response):
    return response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-tagging-count")


# On a put, and changed later without touching the object.
s3.put_object(Bucket=B, Key="a", Body=b"x", Tagging="project=caf%C3%A9&stage=a+b")
assert tags("a") == {"project": "café", "stage": "a b"}
before = s3.head_object(Bucket=B, Key="a")
assert count(before) == "2" and s3.get_object(Bucket=B, Key="a")["TagCount"] == 2
s3.put_object_tagging(Bucket=B, Key="a", Tagging={"TagSet": [{"Key": "only", "Value": ""}]})
assert tags("a") == {"only": ""}
after = s3.head_object(Bucket=B, Key="a")
assert after["ETag"] == before["ETag"] and after["LastModified"] == before["LastModified"] and count(after) == "1"
s3.delete_object_tagging(Bucket=B, Key="a")
assert tags("a") == {} and count(s3.head_object(Bucket=B, Key="a")) is None
s3.put_object(Bucket=B, Key="a", Body=b"x", Tagging="from=put")

# Copies take them along, or get others.
source = {"Bucket": B, "Key": "a"}
s3.copy_object(Bucket=B, Key="b", CopySource=source)
assert tags("b") == {"from": "put"}
s3.copy_object(Bucket=B, Key="b", CopySource=source, Tagging="ignored=1")
assert tags("b") == {"from": "put"}
s3.copy_object(Bucket=B, Key="b", CopySource=source, TaggingDirective="REPLACE", Tagging="from=copy")
assert tags("b") == {"from": "copy"}
s3.copy_object(Bucket=B, Key="b", CopySource=source, TaggingDirective="REPLACE")
assert tags("b") == {}
fails("InvalidArgument", s3.copy_object, Bucket=B, Key="b", CopySource=source, TaggingDirective="KEEP")

# What is wrong is said by name.
def tag(*pairs):
    return {"TagSet": [{"Key": k, "Value": v} for k, v in pairs]}


assert "10" in refusal("BadRequest", s3.put_object_tagging, Bucket=B, Key="a", Tagging=tag(*((str(n), "") for n in range(11))))
s3.put_object_tagging(Bucket=B, Key="a", Tagging=tag(*((str(n), "") for n in range(10))))
for pairs in [[("k" * 129, "")], [("k", "v" * 257)], [("k", "<")], [("aws:k", "v")], [("k", "1"), ("k", "2")]]:
    assert pairs[0][0][:100] in refusal("InvalidTag", s3.put_object_tagging, Bucket=B, Key="a", Tagging=tag(*pairs))
s3.put_object_tagging(Bucket=B, Key="a", Tagging=tag(("k" * 128, "v" * 256)))
fails("InvalidTag", s3.put_object, Bucket=B, Key="c", Body=b"x", Tagging="k=1&k=2")
fails("InvalidTag", s3.create_multipart_upload, Bucket=B, Key="c", Tagging="k=%3C")
fails("NoSuchKey", s3.put_object_tagging, Bucket=B, Key="nothing", Tagging=tag())
fails("NoSuchKey", s3.get_object_tagging, Bucket=B, Key="nothing")
fails("NoSuchKey", s3.delete_object_tagging, Bucket=B, Key="nothing")

# In parts, with tags from the beginning.
body = os.urandom(10 * MIB + 5)
pieces = [body[:5 * MIB], body[5 * MIB:10 * MIB], body[10 * MIB:]]
upload = s3.create_multipart_upload(Bucket=B, Key="parts", ChecksumAlgorithm="SHA256", Tagging="in=parts")
at = dict(Bucket=B, Key="parts", UploadId=upload["UploadId"])
parts = []
for number, piece in enumerate(pieces, 1):
    answer = s3.upload_part(**at, PartNumber=number, Body=piece, ChecksumAlgorithm="SHA256")
    parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": answer["ChecksumSHA256"]})
done = s3.complete_multipart_upload(**at, MultipartUpload={"Parts": parts})
assert tags("parts") == {"in": "parts"}

# Attributes.
ALL = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
known = s3.get_object_attributes(Bucket=B, Key="parts", ObjectAttributes=ALL)
assert known["ObjectSize"] == len(body) and known["StorageClass"] == "STANDARD"
assert known["ETag"].strip('"') == done["ETag"].strip('"') and known["LastModified"]
assert known["Checksum"]["ChecksumSHA256"] == done["ChecksumSHA256"] and known["Checksum"]["ChecksumType"] == "COMPOSITE"
shown = known["ObjectParts"]
assert shown["TotalPartsCount"] == 3 and not shown["IsTruncated"]
assert [(p["PartNumber"], p["Size"]) for p in shown["Parts"]] == [(1, 5 * MIB), (2, 5 * MIB), (3, 5)]
assert [p["ChecksumSHA256"] for p in shown["Parts"]] == [base64.b64encode(hashlib.sha256(p).digest()).decode() for p in pieces]
page = s3.get_object_attributes(Bucket=B, Key="parts", ObjectAttributes=["ObjectParts"], MaxParts=2)["ObjectParts"]
assert len(page["Parts"]) == 2 and page["IsTruncated"] and page["NextPartNumberMarker"] == 2
page = s3.get_object_attributes(Bucket=B, Key="parts", ObjectAttributes=["ObjectParts"], PartNumberMarker=2)["ObjectParts"]
assert [p["PartNumber"] for p in page["Parts"]] == [3] and not page["IsTruncated"]
only = s3.get_object_attributes(Bucket=B, Key="a", ObjectAttributes=["ObjectSize", "ObjectParts"])
assert only["ObjectSize"] == 1 and "ObjectParts" not in only and "ETag" not in only
assert "Wrong" in refusal("InvalidArgument", s3.get_object_attributes, Bucket=B, Key="a", ObjectAttributes=["Wrong"])
fails("NoSuchKey", s3.get_object_attributes, Bucket=B, Key="nothing", ObjectAttributes=["ETag"])

# A part by its number.
for call in [s3.get_object, s3.head_object]:
    part = call(Bucket=B, Key="parts", PartNumber=2)
    assert part["ContentLength"] == 5 * MIB and part["PartsCount"] == 3
    assert part["ResponseMetadata"]["HTTPHeaders"]["content-range"] == f"bytes {5 * MIB}-{10 * MIB - 1}/{len(body)}"
    whole = call(Bucket=B, Key="a", PartNumber=1)
    assert whole["ContentLength"] == 1 and "PartsCount" not in whole
assert s3.get_object(Bucket=B, Key="parts", PartNumber=3)["Body"].read() == pieces[2]
fails("InvalidPartNumber", s3.get_object, Bucket=B, Key="parts", PartNumber=4)
fails("416", s3.head_object, Bucket=B, Key="a", PartNumber=2)
fails("InvalidRequest", s3.get_object, Bucket=B, Key="parts", PartNumber=1, Range="bytes=0-1")

# What a reader is told can be chosen, in a request and in a URL that was signed for it.
wanted = dict(ResponseContentType="x/y", ResponseContentLanguage="de", ResponseContentDisposition="attachment; filename=ü.txt",
              ResponseContentEncoding="identity", ResponseCacheControl="no-store", ResponseExpires=datetime(2031, 2, 3, tzinfo=timezone.utc))
wanted["ResponseContentDisposition"] = 'attachment; filename="a.txt"'
got = s3.get_object(Bucket=B, Key="a", **wanted)
assert (got["ContentType"], got["ContentLanguage"], got["ContentDisposition"], got["ContentEncoding"], got["CacheControl"]) == (
    "x/y", "de", 'attachment; filename="a.txt"', "identity", "no-store"), got
assert got["Expires"].year == 2031
url = s3.generate_presigned_url("get_object", Params={"Bucket": B, "Key": "a", "ResponseContentType": "x/z"}, ExpiresIn=60)
answer = urlopen(url)
assert answer.read() == b"x" and answer.headers["content-type"] == "x/z"
