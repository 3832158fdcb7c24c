"""Keys, metadata, parts and bodies at their limits and beyond; connections that are cut."""
import http.client, socket
from urllib.parse import urlparse

# Keys: 1,024 bytes of UTF-8, in both kinds of bucket.
for status in [None, "Enabled"]:
    if status:
        s3.put_bucket_versioning(Bucket=B, VersioningConfiguration={"Status": status})
    for key in ["k" * 1024, "ü" * 512, "🎬" * 256]:
        version = s3.put_object(Bucket=B, Key=key, Body=b"x").get("VersionId")
        s3.put_object(Bucket=B, Key=key, Body=b"xy")
        assert s3.get_object(Bucket=B, Key=key)["Body"].read() == b"xy"
        if version:
            assert s3.get_object(Bucket=B, Key=key, VersionId=version)["Body"].read() == b"x"
            found = s3.list_object_versions(Bucket=B, Prefix=key)
            assert [v["Key"] for v in found["Versions"]][:2] == [key, key]
    for key in ["k" * 1025, "ü" * 512 + "k"]:
        fails("KeyTooLongError", s3.put_object, Bucket=B, Key=key, Body=b"")
        fails("KeyTooLongError", s3.create_multipart_upload, Bucket=B, Key=key)
        fails("KeyTooLongError", s3.copy_object, Bucket=B, Key=key, CopySource={"Bucket": B, "Key": "k" * 1024})

# Metadata: 2 KiB of names and values.
limit = {"a": "x" * 1000, "b": "y" * (2048 - 1000 - 2)}
s3.put_object(Bucket=B, Key="meta", Body=b"", Metadata=limit)
assert s3.head_object(Bucket=B, Key="meta")["Metadata"] == limit
over = {**limit, "c": ""}
assert "2049" in refusal("MetadataTooLarge", s3.put_object, Bucket=B, Key="meta", Body=b"", Metadata=over)
fails("MetadataTooLarge", s3.create_multipart_upload, Bucket=B, Key="meta", Metadata=over)
fails("MetadataTooLarge", s3.copy_object, Bucket=B, Key="meta2", CopySource={"Bucket": B, "Key": "meta"},
      MetadataDirective="REPLACE", Metadata=over)

# Parts: 1 to 10,000, in order, each once, none missing.
upload = s3.create_multipart_upload(Bucket=B, Key="parts")
at = dict(Bucket=B, Key="parts", UploadId=upload["UploadId"])
etag = s3.upload_part(**at, PartNumber=10000, Body=b"x")["ETag"]
for number in [0, -1, 10001]:
    assert "10000" in refusal("InvalidArgument", s3.upload_part, **at, PartNumber=number, Body=b"x")
P = lambda *numbers: {"Parts": [{"PartNumber": n, "ETag": etag} for n in numbers]}
fails("InvalidPart", s3.complete_multipart_upload, **at, MultipartUpload=P(*range(1, 10001)))
fails("InvalidArgument", s3.complete_multipart_upload, **at, MultipartUpload=P(*range(1, 10002)))
fails("InvalidPartOrder", s3.complete_multipart_upload, **at, MultipartUpload=P(10000, 10000))
fails("MalformedXML", s3.complete_multipart_upload, **at, MultipartUpload={"Parts": []})
s3.upload_part(**at, PartNumber=1, Body=b"x")
assert "5242880" in refusal("EntityTooSmall", s3.complete_multipart_upload, **at, MultipartUpload=P(1, 10000))

# Cut in the middle: of a part, and of an object. The cloud goes on, and nothing of it is there.
url = urlparse(s3.generate_presigned_url("upload_part", Params={**at, "PartNumber": 2}))
put = urlparse(s3.generate_presigned_url("put_object", Params={"Bucket": B, "Key": "cut"}))
for target in [url, put]:
    for sent in [b"", b"x" * 10, b"x" * 3_000_000]:
        connection = socket.create_connection((target.hostname, target.port))
        head = f"PUT {target.path}?{target.query} HTTP/1.1\r\nHost: {target.netloc}\r\nContent-Length: 9000000\r\n\r\n"
        connection.sendall(head.encode() + sent)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)
        connection.close()
assert [p["PartNumber"] for p in s3.list_parts(**at)["Parts"]] == [1, 10000]
fails("404", s3.head_object, Bucket=B, Key="cut")

# A body that is announced too large is refused before it is sent.
connection = http.client.HTTPConnection(put.hostname, put.port)
connection.putrequest("PUT", f"{put.path}?{put.query}")
connection.putheader("Content-Length", str((5 << 30) + 1))
connection.endheaders()
answer = connection.getresponse()
assert answer.status == 400 and b"EntityTooLarge" in answer.read(), answer.status

s3.complete_multipart_upload(**at, MultipartUpload=P(10000))
assert s3.get_object(Bucket=B, Key="parts")["Body"].read() == b"x"
boto3.resource("s3").Bucket(B).object_versions.delete()
