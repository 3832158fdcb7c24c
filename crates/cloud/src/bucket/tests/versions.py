"""Versions, as boto3 and its paginators see them."""
import base64, os


def headers(response):
    return response["ResponseMetadata"]["HTTPHeaders"]


def listed(**kwargs):
    """All versions and delete markers by key, as (key, id, latest)."""
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=B, **kwargs)
    found = [(e["Key"], e["VersionId"], e["IsLatest"], name) for p in pages for name in ("Versions", "DeleteMarkers")
             for e in p.get(name, [])]
    return sorted(found)


# Never versioned: no version is named, and the object is the version `null`.
assert "Status" not in s3.get_bucket_versioning(Bucket=B)
put = s3.put_object(Bucket=B, Key="old", Body=b"before")
assert "VersionId" not in put and "VersionId" not in s3.get_object(Bucket=B, Key="old")
assert s3.get_object(Bucket=B, Key="old", VersionId="null")["Body"].read() == b"before"
assert listed() == [("old", "null", True, "Versions")]
fails("InvalidArgument", s3.get_object, Bucket=B, Key="old", VersionId="wrong")
fails("NoSuchVersion", s3.get_object, Bucket=B, Key="old", VersionId="0" * 32)

s3.put_bucket_versioning(Bucket=B, VersioningConfiguration={"Status": "Enabled"})
assert s3.get_bucket_versioning(Bucket=B)["Status"] == "Enabled"
fails("MalformedXML", s3.put_bucket_versioning, Bucket=B, VersioningConfiguration={"Status": "On"})
assert s3.head_object(Bucket=B, Key="old")["VersionId"] == "null"

# Put, and put again: both are there.
large = os.urandom(100_000)
one = s3.put_object(Bucket=B, Key="a", Body=b"one")["VersionId"]
two = s3.put_object(Bucket=B, Key="a", Body=large, Metadata={"n": "2"})["VersionId"]
three = s3.put_object(Bucket=B, Key="a", Body=b"three")["VersionId"]
got = s3.get_object(Bucket=B, Key="a")
assert got["Body"].read() == b"three" and got["VersionId"] == three
got = s3.get_object(Bucket=B, Key="a", VersionId=two)
assert got["Body"].read() == large and got["VersionId"] == two and got["Metadata"] == {"n": "2"}
assert s3.get_object(Bucket=B, Key="a", VersionId=two, Range="bytes=5-9")["Body"].read() == large[5:10]
assert s3.head_object(Bucket=B, Key="a", VersionId=one)["ContentLength"] == 3
assert s3.get_object_attributes(Bucket=B, Key="a", VersionId=two, ObjectAttributes=["ObjectSize"])["ObjectSize"] == 100_000
assert [v for k, v, *_ in listed(Prefix="a")] == sorted([one, two, three])
page = s3.list_object_versions(Bucket=B, Prefix="a")
assert [v["VersionId"] for v in page["Versions"]] == [three, two, one] and [v["IsLatest"] for v in page["Versions"]] == [True, False, False]
assert page["Versions"][1]["Size"] == 100_000 and page["Versions"][1]["ETag"] and page["Versions"][1]["Owner"]

# A copy of a version, onto itself too.
copied = s3.copy_object(Bucket=B, Key="a", CopySource={"Bucket": B, "Key": "a", "VersionId": one})
assert copied["CopySourceVersionId"] == one and copied["VersionId"] not in (one, two, three)
assert s3.get_object(Bucket=B, Key="a")["Body"].read() == b"one"
four = copied["VersionId"]
fails("InvalidRequest", s3.copy_object, Bucket=B, Key="a", CopySource={"Bucket": B, "Key": "a"})
fails("NoSuchVersion", s3.copy_object, Bucket=B, Key="b", CopySource={"Bucket": B, "Key": "a", "VersionId": "0" * 32})

# In parts, also of a version, and asked twice.
upload = s3.create_multipart_upload(Bucket=B, Key="parts")
at = dict(Bucket=B, Key="parts", UploadId=upload["UploadId"])
part = s3.upload_part_copy(**at, PartNumber=1, CopySource={"Bucket": B, "Key": "a", "VersionId": two})
assert part["CopySourceVersionId"] == two
done = [s3.complete_multipart_upload(**at, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]})
        for _ in range(2)]
assert done[0]["VersionId"] == done[1]["VersionId"]
assert s3.get_object(Bucket=B, Key="parts", VersionId=done[0]["VersionId"])["Body"].read() == large

# Deleted, it is there no more; but its versions are.
gone = s3.delete_object(Bucket=B, Key="a")
marker = gone["VersionId"]
assert gone["DeleteMarker"] is True
for call in [s3.get_object, s3.head_object]:
    answer = fails("NoSuchKey" if call == s3.get_object else "404", call, Bucket=B, Key="a")
    assert headers(answer)["x-amz-delete-marker"] == "true" and headers(answer)["x-amz-version-id"] == marker, headers(answer)
answer = fails("MethodNotAllowed", s3.get_object, Bucket=B, Key="a", VersionId=marker)
assert answer["ResponseMetadata"]["HTTPStatusCode"] == 405 and headers(answer)["x-amz-delete-marker"] == "true"
assert headers(answer)["allow"] == "DELETE" and headers(answer)["last-modified"]
fails("405", s3.head_object, Bucket=B, Key="a", VersionId=marker)
fails("InvalidRequest", s3.copy_object, Bucket=B, Key="b", CopySource={"Bucket": B, "Key": "a", "VersionId": marker})
fails("NoSuchKey", s3.copy_object, Bucket=B, Key="b", CopySource={"Bucket": B, "Key": "a"})
assert [o["Key"] for o in s3.list_objects_v2(Bucket=B)["Contents"]] == ["old", "parts"]
assert s3.get_object(Bucket=B, Key="a", VersionId=two)["Body"].read() == large
again = s3.delete_object(Bucket=B, Key="a")
assert again["DeleteMarker"] and again["VersionId"] != marker, "each deletion makes a marker"
never = s3.delete_object(Bucket=B, Key="never was")
assert never["DeleteMarker"] and ("never was", never["VersionId"], True, "DeleteMarkers") in listed()
s3.delete_object(Bucket=B, Key="never was", VersionId=never["VersionId"])

# For good. The markers go first, and the object is there again.
for version in [again["VersionId"], marker]:
    gone = s3.delete_object(Bucket=B, Key="a", VersionId=version)
    assert gone["DeleteMarker"] is True and gone["VersionId"] == version
assert s3.get_object(Bucket=B, Key="a")["VersionId"] == four
gone = s3.delete_object(Bucket=B, Key="a", VersionId=four)
assert gone["VersionId"] == four and "DeleteMarker" not in gone
assert s3.get_object(Bucket=B, Key="a")["VersionId"] == three
s3.delete_object(Bucket=B, Key="a", VersionId=four)

# Many at once: a version, a marker to be made, an id that is none, a condition.
gone = s3.delete_objects(Bucket=B, Delete={"Objects": [
    {"Key": "a", "VersionId": three}, {"Key": "old"}, {"Key": "a", "VersionId": "wrong"}, {"Key": "a", "ETag": "other"},
    {"Key": "a", "VersionId": one}]})
assert [(d["Key"], d.get("VersionId"), d.get("DeleteMarker")) for d in gone["Deleted"]] == [
    ("a", three, None), ("old", None, True), ("a", one, None)], gone
assert gone["Deleted"][1]["DeleteMarkerVersionId"]
assert sorted((e["Code"], e.get("VersionId")) for e in gone["Errors"]) == [("InvalidArgument", "wrong"), ("PreconditionFailed", None)]
assert s3.get_object(Bucket=B, Key="a")["VersionId"] == two
old = gone["Deleted"][1]["DeleteMarkerVersionId"]
gone = s3.delete_objects(Bucket=B, Delete={"Objects": [{"Key": "old", "VersionId": old}, {"Key": "old", "VersionId": "null"}]})
assert gone["Deleted"][0]["DeleteMarker"] and gone["Deleted"][0]["DeleteMarkerVersionId"] == old
assert not [v for v in listed() if v[0] == "old"]

# Listings: pages of every size, folded, from a marker on, encoded.
for key in ["l/1", "l/2/x", "l/2/y", "l/3"]:
    for n in range(3):
        s3.put_object(Bucket=B, Key=key, Body=b"x" * n)
s3.delete_object(Bucket=B, Key="l/3")
everything = listed(Prefix="l/")
assert len(everything) == 13
for size in [1, 2, 5, 13, 1000]:
    assert listed(Prefix="l/", PaginationConfig={"PageSize": size}) == everything, size
    pages = list(s3.get_paginator("list_object_versions").paginate(Bucket=B, Prefix="l/", Delimiter="/", PaginationConfig={"PageSize": size}))
    assert [c["Prefix"] for p in pages for c in p.get("CommonPrefixes", [])] == ["l/2/"]
    assert sum(len(p.get("Versions", [])) + len(p.get("DeleteMarkers", [])) for p in pages) == 7
    assert all(p["MaxKeys"] == size for p in pages)
behind = s3.list_object_versions(Bucket=B, Prefix="l/", KeyMarker="l/2/x")
assert {v["Key"] for v in behind["Versions"]} == {"l/2/y", "l/3"}
ids = [v["VersionId"] for v in s3.list_object_versions(Bucket=B, Prefix="l/1")["Versions"]]
behind = s3.list_object_versions(Bucket=B, Prefix="l/1", KeyMarker="l/1", VersionIdMarker=ids[0])
assert [v["VersionId"] for v in behind["Versions"]] == ids[1:]
fails("InvalidArgument", s3.list_object_versions, Bucket=B, VersionIdMarker=ids[0])
s3.put_object(Bucket=B, Key="ü +&", Body=b"")
assert [v["Key"] for v in s3.list_object_versions(Bucket=B, Prefix="ü")["Versions"]] == ["ü +&"]

# Suspended: what is written is `null`, and what was kept stays.
s3.put_bucket_versioning(Bucket=B, VersioningConfiguration={"Status": "Suspended"})
assert s3.get_bucket_versioning(Bucket=B)["Status"] == "Suspended"
assert s3.put_object(Bucket=B, Key="a", Body=b"n1")["VersionId"] == "null"
assert s3.put_object(Bucket=B, Key="a", Body=b"n2")["VersionId"] == "null"
assert [(v, latest) for _, v, latest, _ in listed(Prefix="a")] == sorted([("null", True), (two, False)])
gone = s3.delete_object(Bucket=B, Key="a")
assert gone["DeleteMarker"] and gone["VersionId"] == "null"
fails("NoSuchKey", s3.get_object, Bucket=B, Key="a")
s3.delete_object(Bucket=B, Key="a", VersionId="null")
assert s3.get_object(Bucket=B, Key="a")["Body"].read() == large

# All of it goes.
bucket = boto3.resource("s3").Bucket(B)
bucket.object_versions.delete()
assert listed() == []
