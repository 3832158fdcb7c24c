import os, subprocess

os.environ |= {
    "RCLONE_CONFIG": "/dev/null",
    "RCLONE_CONFIG_CLOUD_TYPE": "s3",
    "RCLONE_CONFIG_CLOUD_PROVIDER": "Other",
    "RCLONE_CONFIG_CLOUD_ENDPOINT": os.environ["AWS_ENDPOINT_URL"],
    "RCLONE_CONFIG_CLOUD_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
    "RCLONE_CONFIG_CLOUD_SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"],
    "RCLONE_CONFIG_CLOUD_REGION": "us-east-1",
    "RCLONE_S3_UPLOAD_CUTOFF": "8M",
    "RCLONE_S3_CHUNK_SIZE": "5M",
    "RCLONE_RETRIES": "1",
    "RCLONE_LOW_LEVEL_RETRIES": "1",
    "HOME": os.getcwd(),
}


def rclone(*args, ok=True, stdin=None):
    done = subprocess.run(["rclone", *args], input=stdin, capture_output=True)
    assert (done.returncode == 0) == ok, (args, done.returncode, done.stdout, done.stderr)
    return (done.stdout if ok else done.stderr).decode()


os.makedirs("tree/sub dir")
files = {"tree/a.txt": b"a" * 10, "tree/empty": b"", "tree/sub dir/ü +&.bin": os.urandom(200_000),
         "tree/large": os.urandom((12 << 20) + 3)}
for name, body in files.items():
    open(name, "wb").write(body)
    os.utime(name, (1_700_000_000, 1_700_000_000))

rclone("mkdir", "cloud:mine")
assert sorted(line.split()[-1] for line in rclone("lsd", "cloud:").splitlines()) == ["mine", "photos"]

# There and back, whole, with the time of each file, which rclone keeps in the metadata.
rclone("sync", "tree", "cloud:mine/tree")
rclone("check", "tree", "cloud:mine/tree")
listed = rclone("lsf", "-R", "--format", "tps", "cloud:mine/tree")
assert "2023-11-14" in listed and "sub dir/ü +&.bin;200000" in listed, listed
assert "Transferred:" not in rclone("sync", "--stats-one-line", "-v", "tree", "cloud:mine/tree"), "nothing is left to do"
rclone("sync", "cloud:mine/tree", "back")
for name, body in files.items():
    assert open(name.replace("tree", "back", 1), "rb").read() == body, name
    assert os.stat(name.replace("tree", "back", 1)).st_mtime == 1_700_000_000

# One at a time, copied and moved within the cloud, from a pipe.
rclone("copyto", "cloud:mine/tree/large", "cloud:mine/copied large")
rclone("moveto", "cloud:mine/copied large", "cloud:mine/moved")
assert subprocess.run(["rclone", "cat", "cloud:mine/moved"], capture_output=True).stdout == files["tree/large"]
rclone("rcat", "cloud:mine/from stdin", stdin=b"streamed")
assert rclone("cat", "--offset", "2", "--count", "3", "cloud:mine/from stdin") == "rea"
rclone("touch", "--timestamp", "2020-01-02T03:04:05", "cloud:mine/moved")
assert "2020-01-02" in rclone("lsl", "cloud:mine/moved")
assert "Total objects: 6" in rclone("size", "cloud:mine")
assert "e09c80c42fda55f9d992e59ca6b3307d" in rclone("hashsum", "md5", "cloud:mine/tree/a.txt")
link = rclone("link", "--expire", "1h", "cloud:mine/from stdin").strip()
import urllib.request
assert urllib.request.urlopen(link).read() == b"streamed"

# And away with it.
os.remove("tree/empty")
rclone("sync", "tree", "cloud:mine/tree")
assert "empty" not in rclone("lsf", "cloud:mine/tree")
rclone("cleanup", "cloud:mine")
assert "BucketNotEmpty" in rclone("rmdir", "cloud:mine", ok=False)
rclone("purge", "cloud:mine")
assert "mine" not in rclone("lsd", "cloud:")
assert "AccessDenied" in rclone("lsf", "cloud:secrets", ok=False)
