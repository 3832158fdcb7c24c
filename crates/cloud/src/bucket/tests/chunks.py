"""Bodies in signed and unsigned chunks with a checksum behind them, as the SDKs for JavaScript, Go and Java send them."""
import base64, hashlib, hmac, http.client, os, zlib
from urllib.parse import urlparse
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
body = os.urandom(150_000)
chunks = [body[i:i + 65536] for i in range(0, len(body), 65536)]


class Signer(S3SigV4Auth):
    def __init__(self, payload):
        super().__init__(Credentials(KEY, SECRET), "s3", "us-east-1")
        self.kind = payload

    def payload(self, request):
        return self.kind


def put(kind, headers, encode):
    """Sends a body as `encode` makes it of the request's signature and date; answers status and text."""
    headers = {"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": str(len(body)),
               "X-Amz-Content-SHA256": kind, **headers}
    request = AWSRequest("PUT", ENDPOINT + "/photos/chunked", headers=headers)
    Signer(kind).add_auth(request)
    signature = request.headers["Authorization"].split("Signature=")[1]
    data = encode(signature, request.headers["X-Amz-Date"])
    url = urlparse(ENDPOINT)
    connection = http.client.HTTPConnection(url.hostname, url.port)
    connection.request("PUT", "/photos/chunked", body=data, headers=dict(request.headers.items()))
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def unsigned(trailer):
    def encode(signature, date):
        return b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailer + b"\r\n\r\n"
    return encode


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signed(spoil):
    def encode(signature, date):
        scope = f"{date[:8]}/us-east-1/s3/aws4_request"
        key = ("AWS4" + SECRET).encode()
        for part in scope.split("/"):
            key = mac(key, part)
        encoded = b""
        for chunk in chunks + [b""]:
            text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", date, scope, signature, hashlib.sha256(b"").hexdigest(),
                              hashlib.sha256(chunk).hexdigest()])
            signature = mac(key, text).hex()
            sent = bytes([chunk[0] ^ 1]) + chunk[1:] if spoil and chunk else chunk
            encoded += b"%x;chunk-signature=%s\r\n%s\r\n" % (len(chunk), signature.encode(), sent)
        return encoded
    return encode


checksum = base64.b64encode(zlib.crc32(body).to_bytes(4, "big"))
TRAILER = {"X-Amz-Trailer": "x-amz-checksum-crc32"}
status, text = put("STREAMING-UNSIGNED-PAYLOAD-TRAILER", TRAILER, unsigned(b"x-amz-checksum-crc32:" + checksum))
assert status == 200, text
assert s3.get_object(Bucket="photos", Key="chunked")["Body"].read() == body
head = s3.head_object(Bucket="photos", Key="chunked", ChecksumMode="ENABLED")
assert head["ChecksumCRC32"].encode() == checksum and "ContentEncoding" not in head, head

status, text = put("STREAMING-UNSIGNED-PAYLOAD-TRAILER", TRAILER, unsigned(b"x-amz-checksum-crc32:AAAAAA=="))
assert status == 400 and "BadDigest" in text, text
status, text = put("STREAMING-UNSIGNED-PAYLOAD-TRAILER", TRAILER, unsigned(b"x-amz-checksum-sha1:AAAAAA=="))
assert status == 400, text

s3.delete_object(Bucket="photos", Key="chunked")
status, text = put("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", {}, signed(False))
assert status == 200, text
assert s3.get_object(Bucket="photos", Key="chunked")["Body"].read() == body
status, text = put("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", {}, signed(True))
assert status == 403 and "SignatureDoesNotMatch" in text, (status, text)

# A body that is not what was signed as a whole.
status, text = put(hashlib.sha256(b"other").hexdigest(), {}, lambda *_: body)
assert status == 400 and "XAmzContentSHA256Mismatch" in text, (status, text)
assert s3.get_object(Bucket="photos", Key="chunked")["Body"].read() == body
