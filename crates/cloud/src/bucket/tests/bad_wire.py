"""What no client library would send. Signed by hand, over a socket."""
import datetime, hashlib, hmac, os, re, socket
from urllib.parse import urlsplit

HOST = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
ADDRESS = (HOST.split(":")[0], int(HOST.split(":")[1]))
KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
UNSIGNED = "UNSIGNED-PAYLOAD"


def head(method, path, length, query="", **headers):
    """A signed head; the body's hash is not signed."""
    now = datetime.datetime.now(datetime.timezone.utc)
    date, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"host": HOST, "x-amz-date": date, "x-amz-content-sha256": UNSIGNED} | headers
    names = ";".join(sorted(headers))
    canonical = "\n".join([method, path, query, *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names, UNSIGNED])
    scope = f"{day}/us-east-1/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + SECRET.encode()
    for part in (day, "us-east-1", "s3", "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    if length is not None:
        headers["content-length"] = str(length)
    lines = [f"{method} {path}{'?' + query if query else ''} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def answer(connection, has_body=True):
    connection.settimeout(60)
    read = b""
    while b"\r\n\r\n" not in read:
        more = connection.recv(65536)
        if not more:
            break
        read += more
    start, _, body = read.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", start.lower())
    while has_body and length and len(body) < int(length[1]):
        more = connection.recv(65536)
        assert more, "the answer ended early"
        body += more
    return (int(start.split()[1]) if start else None), body.decode(errors="replace")


def send(*args, body=b"", **headers):
    with socket.create_connection(ADDRESS) as connection:
        connection.sendall(head(*args, len(body), **headers) + body)
        return answer(connection, args[0] != "HEAD")


def refused(status, code, found):
    assert found[0] == status and f"<Code>{code}</Code>" in found[1], (code, found)


# Documents that are none.
refused(400, "MissingRequestBodyError", send("POST", "/photos", query="delete="))
for wrong in (b"<", b"<Delete>", b"<Delete><Object></Delete>", b"not xml", b"<Other/>", b"<Delete><Object><Key>\xff</Key></Object></Delete>",
              b"<Delete>" + b"<a>" * 10_000):
    refused(400, "MalformedXML", send("POST", "/photos", body=wrong, query="delete="))
refused(400, "MalformedXML", send("PUT", "/photos", body=b"<CORSConfiguration><CORSRule></CORSConfiguration>", query="cors="))
refused(400, "MalformedXML", send("PUT", "/photos", body=b"<Tagging><TagSet><Tag><Key>a</Key></TagSet>", query="tagging="))
# Entities that would grow are not expanded.
bomb = (b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
        b"<Delete><Object><Key>&b;</Key></Object></Delete>")
refused(400, "MalformedXML", send("POST", "/photos", body=bomb, query="delete="))
# One that is larger than any that S3 knows is not read to its end.
big = b"<Delete>" + b"<Object><Key>a</Key></Object>" * 200_000 + b"</Delete>"
with socket.create_connection(ADDRESS) as connection:
    connection.sendall(head("POST", "/photos", len(big), "delete="))
    try:
        connection.sendall(big)
        refused(400, "MaxMessageLengthExceeded", answer(connection))
    except (BrokenPipeError, ConnectionResetError):
        pass  # The answer came before the document's end, and nobody reads on.

# A connection that is cut in the middle of a body leaves nothing; nor does one that is cut in a part.
assert send("PUT", "/photos/kept", body=b"kept")[0] == 200
for path in ("/photos/kept", "/photos/new"):
    with socket.create_connection(ADDRESS) as connection:
        connection.sendall(head("PUT", path, 1_000_000) + b"x" * 400_000)
assert send("GET", "/photos/kept") == (200, "kept")
assert send("HEAD", "/photos/new")[0] == 404
status, body = send("POST", "/photos/parts", query="uploads=")
upload = re.search("<UploadId>(.*)</UploadId>", body)[1]
with socket.create_connection(ADDRESS) as connection:
    connection.sendall(head("PUT", "/photos/parts", 6_000_000, f"partNumber=1&uploadId={upload}") + b"x" * 3_000_000)
status, body = send("GET", "/photos/parts", query=f"uploadId={upload}")
assert status == 200 and "<PartNumber>" not in body, body

# A client that stops sending is told so, and then cut off.
with socket.create_connection(ADDRESS) as connection:
    connection.sendall(head("PUT", "/photos/slow", 10) + b"half")
    refused(400, "RequestTimeout", answer(connection))
    assert connection.recv(1) == b""
assert send("HEAD", "/photos/slow")[0] == 404

# What is no HTTP.
for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost\r\n\r\n",
                 b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
                 b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n"):
    with socket.create_connection(ADDRESS) as connection:
        try:
            connection.sendall(nonsense)
            status = answer(connection)[0]
        except (BrokenPipeError, ConnectionResetError):
            status = None
        assert status in (None, 400, 403, 414, 431), (nonsense[:40], status)

# A path that is none, a query that is none.
assert send("GET", "/photos/%ff")[0] == 400
assert send("GET", "/..%2f..%2fetc/passwd")[0] in (400, 404)
assert send("GET", "/photos/kept", query="a=%zz")[0] in (200, 400, 403)
assert send("GET", "/photos/kept") == (200, "kept"), "and all the while it answers"
