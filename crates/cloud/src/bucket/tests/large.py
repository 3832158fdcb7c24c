"""One large body as one put, as parts, and read again; made as it is sent, so that it takes no memory here either."""
import hashlib, http.client, os
from urllib.parse import urlparse

SIZE = int(os.environ.get("TANDEM_TEST_LARGE_OBJECT", 300 << 20))
POOL = os.urandom(8 << 20)
STEP = (1 << 20) - 3


def body(size):
    """Pieces that are not aligned to anything, from changing places."""
    sent, at = 0, 0
    while sent < size:
        piece = POOL[at:at + min(STEP, size - sent)]
        sent, at = sent + len(piece), (at + 4099) % (len(POOL) - STEP)
        yield piece


def send(url, size):
    """Puts by a URL; answers the MD5 of what was sent."""
    url, md5 = urlparse(url), hashlib.md5()
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=200)
    connection.putrequest("PUT", f"{url.path}?{url.query}")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    for piece in body(size):
        md5.update(piece)
        connection.send(piece)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
    assert answer.headers["etag"] == f'"{md5.hexdigest()}"'
    return md5


def received(**kwargs):
    md5, size = hashlib.md5(), 0
    stream = s3.get_object(Bucket=B, **kwargs)["Body"]
    while piece := stream.read(1 << 20):
        md5.update(piece)
        size += len(piece)
    return size, md5.hexdigest()


sign = lambda call, **params: s3.generate_presigned_url(call, Params={"Bucket": B, **params}, ExpiresIn=3600)
sent = send(sign("put_object", Key="whole"), SIZE)
assert received(Key="whole") == (SIZE, sent.hexdigest())

# In two parts, the second copied from the first object.
at = dict(Key="parts", UploadId=s3.create_multipart_upload(Bucket=B, Key="parts")["UploadId"])
first = send(sign("upload_part", **at, PartNumber=1), SIZE // 4)
source = {"Bucket": B, "Key": "whole"}
second = s3.upload_part_copy(Bucket=B, **at, PartNumber=2, CopySource=source, CopySourceRange=f"bytes=0-{SIZE // 2 - 1}")
etags = ['"' + first.hexdigest() + '"', second["CopyPartResult"]["ETag"]]
parts = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]
s3.complete_multipart_upload(Bucket=B, **at, MultipartUpload={"Parts": parts})
assert received(Key="parts", PartNumber=2) == (SIZE // 2, etags[1].strip('"'))
assert s3.head_object(Bucket=B, Key="parts")["ContentLength"] == SIZE // 4 + SIZE // 2
