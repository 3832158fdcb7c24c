import os, subprocess, sys

AWS = os.environ["AWS"]


def aws(*args, ok=True, stdin=None):
    done = subprocess.run([sys.executable, AWS, *args], input=stdin, capture_output=True)
    assert (done.returncode == 0) == ok, (args, done.returncode, done.stdout, done.stderr)
    return done.stdout if ok else done.stderr


os.makedirs("tree/sub dir")
files = {"tree/a.txt": b"a" * 10, "tree/sub dir/ü.bin": os.urandom(200_000), "tree/large": os.urandom((9 << 20) + 3)}
for name, body in files.items():
    open(name, "wb").write(body)

aws("s3", "cp", "tree/a.txt", "s3://photos/one.txt")
assert b"one.txt" in aws("s3", "ls", "s3://photos/")
assert b"photos" in aws("s3", "ls")
aws("s3", "cp", "s3://photos/one.txt", "back.txt")
assert open("back.txt", "rb").read() == b"a" * 10
aws("s3", "cp", "-", "s3://photos/from stdin", stdin=b"streamed")
assert aws("s3", "cp", "s3://photos/from stdin", "-") == b"streamed"

aws("s3", "sync", "tree", "s3://photos/tree")
os.makedirs("copy")
aws("s3", "sync", "s3://photos/tree", "copy")
for name, body in files.items():
    assert open(name.replace("tree", "copy", 1), "rb").read() == body, name
assert aws("s3", "sync", "tree", "s3://photos/tree") == b"", "nothing is left to do"

aws("s3", "cp", "s3://photos/tree/large", "s3://photos/copied large")
aws("s3", "mv", "s3://photos/copied large", "s3://photos/moved large")
aws("s3", "cp", "s3://photos/moved large", "moved")
assert open("moved", "rb").read() == files["tree/large"]
assert b"moved large" in aws("s3api", "list-objects-v2", "--bucket", "photos", "--query", "Contents[].Key", "--output", "text")
aws("s3", "rm", "--recursive", "s3://photos/tree")
assert b"tree" not in aws("s3", "ls", "s3://photos/")

aws("s3", "mb", "s3://mine")
assert b"mine" in aws("s3", "ls")
aws("s3", "sync", "s3://photos", "s3://mine")
assert b"BucketNotEmpty" in aws("s3", "rb", "s3://mine", ok=False)
aws("s3", "rb", "--force", "s3://mine")
assert b"mine" not in aws("s3", "ls")
assert b"tandem destroy" in aws("s3", "rb", "s3://photos", ok=False)

url = aws("s3", "presign", "s3://photos/one.txt").decode().strip()
import urllib.request
assert urllib.request.urlopen(url).read() == b"a" * 10
assert b"404" in aws("s3", "cp", "s3://photos/nothing", "x", ok=False)
