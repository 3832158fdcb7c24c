import datetime, os

other = boto3.client("s3", aws_access_key_id=os.environ["OTHER_ACCESS_KEY_ID"],
                     aws_secret_access_key=os.environ["OTHER_SECRET_ACCESS_KEY"])

# A bucket that a client makes works as any other, and is its stack's.
assert s3.create_bucket(Bucket="mine")["Location"] == "/mine"
s3.head_bucket(Bucket="mine")
s3.put_object(Bucket="mine", Key="a", Body=b"x")
assert s3.get_object(Bucket="mine", Key="a")["Body"].read() == b"x"
fails("AccessDenied", other.get_object, Bucket="mine", Key="a")
fails("AccessDenied", other.delete_bucket, Bucket="mine")

# To make it again changes nothing; what others have is taken.
assert s3.create_bucket(Bucket="mine")["Location"] == "/mine"
assert s3.create_bucket(Bucket="photos")["Location"] == "/photos"
fails("BucketAlreadyExists", other.create_bucket, Bucket="mine")
fails("BucketAlreadyExists", s3.create_bucket, Bucket="secrets")
assert s3.get_object(Bucket="mine", Key="a")["Body"].read() == b"x"
fails("InvalidBucketName", s3.create_bucket, Bucket="xn--mine")

# What buckets cannot be.
assert "eu-central-1" in refusal("InvalidLocationConstraint", s3.create_bucket, Bucket="elsewhere",
                               CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
assert "ACL" in refusal("NotImplemented", s3.create_bucket, Bucket="open", ACL="public-read")
assert "object-lock" in refusal("NotImplemented", s3.create_bucket, Bucket="open", ObjectLockEnabledForBucket=True)
s3.create_bucket(Bucket="closed", ACL="private", ObjectOwnership="BucketOwnerEnforced")

# The list has true dates, and pages.
now = datetime.datetime.now(datetime.timezone.utc)
listed = s3.list_buckets()
assert [b["Name"] for b in listed["Buckets"]] == ["closed", "mine", "photos"], listed
assert all(abs(now - b["CreationDate"]) < datetime.timedelta(minutes=5) for b in listed["Buckets"]), listed
pages = list(s3.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": 2}))
assert [[b["Name"] for b in page["Buckets"]] for page in pages] == [["closed", "mine"], ["photos"]]
assert [b["Name"] for b in s3.list_buckets(Prefix="m")["Buckets"]] == ["mine"]
assert s3.list_buckets(BucketRegion="eu-central-1")["Buckets"] == []

# A bucket goes when it is empty, also of uploads that were begun.
assert "1 object" in refusal("BucketNotEmpty", s3.delete_bucket, Bucket="mine")
s3.put_object(Bucket="mine", Key="b", Body=b"y")
s3.delete_objects(Bucket="mine", Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
upload = s3.create_multipart_upload(Bucket="mine", Key="begun")["UploadId"]
assert "upload" in refusal("BucketNotEmpty", s3.delete_bucket, Bucket="mine")
s3.abort_multipart_upload(Bucket="mine", Key="begun", UploadId=upload)
s3.delete_bucket(Bucket="mine")
fails("NoSuchBucket", s3.delete_bucket, Bucket="mine")
fails("NoSuchBucket", s3.put_object, Bucket="mine", Key="a", Body=b"x")
other.create_bucket(Bucket="mine")
other.delete_bucket(Bucket="mine")
assert "bucket/photos" in refusal("MethodNotAllowed", s3.delete_bucket, Bucket="photos")
s3.list_objects_v2(Bucket="photos")

# Who owns it.
s3.head_bucket(Bucket="photos", ExpectedBucketOwner="000000000000")
fails("403", s3.head_bucket, Bucket="photos", ExpectedBucketOwner="111122223333")
