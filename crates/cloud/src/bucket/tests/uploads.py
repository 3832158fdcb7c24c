import base64, hashlib, io, os, zlib
from boto3.s3.transfer import TransferConfig

MIB = 1 << 20

# As the transfer manager does it, by several threads.
body = os.urandom(21 * MIB + 17)
config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB)
s3.upload_fileobj(io.BytesIO(body), B, "managed", Config=config, ExtraArgs={"ContentType": "video/mp4", "Metadata": {"a": "b"}})
head = s3.head_object(Bucket=B, Key="managed", ChecksumMode="ENABLED")
assert head["ContentLength"] == len(body) and head["ContentType"] == "video/mp4" and head["Metadata"] == {"a": "b"}
md5s = b"".join(hashlib.md5(body[i:i + 8 * MIB]).digest() for i in range(0, len(body), 8 * MIB))
assert head["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-3"', head["ETag"]
crcs = b"".join(zlib.crc32(body[i:i + 8 * MIB]).to_bytes(4, "big") for i in range(0, len(body), 8 * MIB))
composite = base64.b64encode(zlib.crc32(crcs).to_bytes(4, "big")).decode() + "-3"
assert head["ChecksumCRC32"] == composite and head["ChecksumType"] == "COMPOSITE", head
got = io.BytesIO()
s3.download_fileobj(B, "managed", got, Config=config)
assert got.getvalue() == body
assert s3.get_object(Bucket=B, Key="managed", Range=f"bytes={8 * MIB - 2}-{8 * MIB + 1}")["Body"].read() == body[8 * MIB - 2:8 * MIB + 2]
part = s3.get_object(Bucket=B, Key="managed", PartNumber=3)
assert part["Body"].read() == body[16 * MIB:] and part["PartsCount"] == 3

# By hand, with a checksum of the whole.
whole = base64.b64encode(zlib.crc32(body[:6 * MIB]).to_bytes(4, "big")).decode()
upload = s3.create_multipart_upload(Bucket=B, Key="by hand", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
assert upload["ChecksumAlgorithm"] == "CRC32" and upload["ChecksumType"] == "FULL_OBJECT"
at = dict(Bucket=B, Key="by hand", UploadId=upload["UploadId"])
parts = []
for number, piece in [(1, body[:5 * MIB]), (2, body[5 * MIB:6 * MIB])]:
    answer = s3.upload_part(**at, PartNumber=number, Body=piece, ChecksumAlgorithm="CRC32")
    parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]})
listed = s3.list_parts(**at, MaxParts=1)
assert [p["Size"] for p in listed["Parts"]] == [5 * MIB] and listed["IsTruncated"]
listed = s3.list_parts(**at, PartNumberMarker=listed["NextPartNumberMarker"])
assert [p["PartNumber"] for p in listed["Parts"]] == [2] and not listed["IsTruncated"]
assert [u["Key"] for u in s3.list_multipart_uploads(Bucket=B)["Uploads"]] == ["by hand"]
fails("BadDigest", s3.complete_multipart_upload, **at, MultipartUpload={"Parts": parts}, ChecksumCRC32="AAAAAA==")
done = s3.complete_multipart_upload(**at, MultipartUpload={"Parts": parts}, ChecksumCRC32=whole, ChecksumType="FULL_OBJECT")
assert done["ChecksumCRC32"] == whole and done["ETag"].endswith('-2"')
again = s3.complete_multipart_upload(**at, MultipartUpload={"Parts": parts})
assert again["ETag"] == done["ETag"]
assert s3.get_object(Bucket=B, Key="by hand", ChecksumMode="ENABLED")["Body"].read() == body[:6 * MIB]

# Wrong parts.
upload = s3.create_multipart_upload(Bucket=B, Key="wrong")
at = dict(Bucket=B, Key="wrong", UploadId=upload["UploadId"])
one = s3.upload_part(**at, PartNumber=1, Body=b"small")["ETag"]
two = s3.upload_part(**at, PartNumber=2, Body=b"last")["ETag"]
P = lambda *parts: {"Parts": [{"PartNumber": n, "ETag": e} for n, e in parts]}
fails("EntityTooSmall", s3.complete_multipart_upload, **at, MultipartUpload=P((1, one), (2, two)))
fails("InvalidPartOrder", s3.complete_multipart_upload, **at, MultipartUpload=P((2, two), (1, one)))
fails("InvalidPart", s3.complete_multipart_upload, **at, MultipartUpload=P((1, two)))
fails("InvalidPart", s3.complete_multipart_upload, **at, MultipartUpload=P((9, one)))
fails("InvalidArgument", s3.upload_part, **at, PartNumber=10001, Body=b"x")
s3.abort_multipart_upload(**at)
fails("NoSuchUpload", s3.abort_multipart_upload, **at)
fails("NoSuchUpload", s3.upload_part, **at, PartNumber=1, Body=b"x")
fails("NoSuchUpload", s3.list_parts, **at)

# Parts that are copied.
upload = s3.create_multipart_upload(Bucket=B, Key="from parts")
at = dict(Bucket=B, Key="from parts", UploadId=upload["UploadId"])
source = {"Bucket": B, "Key": "managed"}
first = s3.upload_part_copy(**at, PartNumber=1, CopySource=source, CopySourceRange=f"bytes=0-{5 * MIB - 1}")
last = s3.upload_part_copy(**at, PartNumber=2, CopySource=source, CopySourceRange=f"bytes={5 * MIB}-{5 * MIB + 9}")
parts = P((1, first["CopyPartResult"]["ETag"]), (2, last["CopyPartResult"]["ETag"]))
s3.complete_multipart_upload(**at, MultipartUpload=parts)
assert s3.get_object(Bucket=B, Key="from parts")["Body"].read() == body[:5 * MIB + 10]
