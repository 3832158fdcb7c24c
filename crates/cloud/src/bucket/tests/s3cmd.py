import os, subprocess, urllib.request

HOST = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
open("config", "w").write(f"""[default]
access_key = {os.environ["AWS_ACCESS_KEY_ID"]}
secret_key = {os.environ["AWS_SECRET_ACCESS_KEY"]}
host_base = {HOST}
host_bucket = {HOST}
bucket_location = us-east-1
use_https = False
multipart_chunk_size_mb = 5
max_retries = 1
""")


def s3cmd(*args, ok=True):
    done = subprocess.run(["s3cmd", "--config", "config", "--no-progress", *args], capture_output=True)
    assert (done.returncode == 0) == ok, (args, done.returncode, done.stdout, done.stderr)
    return (done.stdout if ok else done.stderr).decode()


os.makedirs("tree/sub dir")
files = {"tree/a.txt": b"a" * 10, "tree/empty": b"", "tree/sub dir/ü.bin": os.urandom(200_000),
         "tree/large": os.urandom((11 << 20) + 3)}
for name, body in files.items():
    open(name, "wb").write(body)

s3cmd("mb", "s3://mine")
assert "s3://mine" in s3cmd("ls") and "1970" not in s3cmd("ls")
s3cmd("sync", "tree/", "s3://mine/tree/")
assert "s3://mine/tree/sub dir/ü.bin" in s3cmd("ls", "-r", "s3://mine")
assert "upload:" not in s3cmd("sync", "tree/", "s3://mine/tree/"), "nothing is left to do"
s3cmd("sync", "s3://mine/tree/", "back/")
for name, body in files.items():
    assert open(name.replace("tree", "back", 1), "rb").read() == body, name

s3cmd("put", "--add-header=x-amz-meta-colour:red", "--mime-type=text/x-mine", "tree/a.txt", "s3://mine/one")
info = s3cmd("info", "s3://mine/one")
assert "text/x-mine" in info and "colour" in info and "FULL_CONTROL" in info, info
s3cmd("modify", "--add-header=x-amz-meta-colour:blue", "s3://mine/one")
assert "blue" in s3cmd("info", "s3://mine/one")
assert "Location" in s3cmd("info", "s3://mine")
s3cmd("cp", "s3://mine/tree/large", "s3://mine/copied")
s3cmd("mv", "s3://mine/copied", "s3://mine/moved")
s3cmd("get", "s3://mine/moved", "moved")
assert open("moved", "rb").read() == files["tree/large"]
assert "s3://mine" in s3cmd("du", "s3://mine")
url = s3cmd("signurl", "s3://mine/one", "+3600").strip()
assert urllib.request.urlopen(url).read() == files["tree/a.txt"]

s3cmd("rm", "s3://mine/one")
assert "BucketNotEmpty" in s3cmd("rb", "s3://mine", ok=False)
s3cmd("del", "--recursive", "--force", "s3://mine")
s3cmd("rb", "s3://mine")
assert "s3://mine" not in s3cmd("ls")
assert "403" in s3cmd("ls", "s3://secrets", ok=False)
