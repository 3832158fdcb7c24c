def refused(code, call, **kwargs):
    return fails(code, call, **{"Bucket": B} | kwargs)


# Tags.
assert refused("NoSuchTagSet", s3.get_bucket_tagging)["ResponseMetadata"]["HTTPStatusCode"] == 404
tags = [{"Key": "cost centre", "Value": "42"}, {"Key": "team", "Value": "größer: @home + more"}]
s3.put_bucket_tagging(Bucket=B, Tagging={"TagSet": tags})
assert s3.get_bucket_tagging(Bucket=B)["TagSet"] == tags
s3.put_bucket_tagging(Bucket=B, Tagging={"TagSet": tags[1:]})
assert s3.get_bucket_tagging(Bucket=B)["TagSet"] == tags[1:]
s3.delete_bucket_tagging(Bucket=B)
s3.delete_bucket_tagging(Bucket=B)
refused("NoSuchTagSet", s3.get_bucket_tagging)
for wrong in ([{"Key": "a" * 129, "Value": ""}], [{"Key": "a", "Value": "x" * 257}],
              [{"Key": "a", "Value": ""}] * 2, [{"Key": "AWS:a", "Value": ""}], [{"Key": "a", "Value": "<b>"}],
              [{"Key": f"{n}", "Value": ""} for n in range(51)]):
    refused("InvalidTag", s3.put_bucket_tagging, Tagging={"TagSet": wrong})
refused("NoSuchBucket", s3.put_bucket_tagging, Bucket="nothing-here", Tagging={"TagSet": tags})

# Access control lists: the owner has full control, and nobody else has any.
s3.put_object(Bucket=B, Key="a", Body=b"x", ACL="bucket-owner-full-control")
for acl in s3.get_bucket_acl(Bucket=B), s3.get_object_acl(Bucket=B, Key="a"):
    assert [(g["Permission"], g["Grantee"]["ID"]) for g in acl["Grants"]] == [("FULL_CONTROL", acl["Owner"]["ID"])], acl
    assert acl["Grants"][0]["Grantee"]["Type"] == "CanonicalUser"
policy = {"Grants": acl["Grants"], "Owner": acl["Owner"]}
s3.put_bucket_acl(Bucket=B, ACL="private")
s3.put_bucket_acl(Bucket=B, AccessControlPolicy=policy)
s3.put_object_acl(Bucket=B, Key="a", ACL="bucket-owner-full-control")
s3.put_object_acl(Bucket=B, Key="a", AccessControlPolicy=policy)
refused("NotImplemented", s3.put_bucket_acl, ACL="public-read")
refused("NotImplemented", s3.put_object_acl, Key="a", ACL="public-read")
refused("NotImplemented", s3.put_bucket_acl, GrantRead='uri="http://acs.amazonaws.com/groups/global/AllUsers"')
policy["Grants"] = policy["Grants"] + [{"Permission": "READ", "Grantee": {
    "Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}}]
refused("NotImplemented", s3.put_object_acl, Key="a", AccessControlPolicy=policy)
refused("NoSuchKey", s3.get_object_acl, Key="nothing")

# What was never set.
for code, call in [
    ("NoSuchBucketPolicy", s3.get_bucket_policy),
    ("NoSuchBucketPolicy", s3.get_bucket_policy_status),
    ("ServerSideEncryptionConfigurationNotFoundError", s3.get_bucket_encryption),
    ("NoSuchPublicAccessBlockConfiguration", s3.get_public_access_block),
    ("OwnershipControlsNotFoundError", s3.get_bucket_ownership_controls),
    ("NoSuchWebsiteConfiguration", s3.get_bucket_website),
    ("ReplicationConfigurationNotFoundError", s3.get_bucket_replication),
    ("ObjectLockConfigurationNotFoundError", s3.get_object_lock_configuration),
]:
    assert refused(code, call)["ResponseMetadata"]["HTTPStatusCode"] == 404
    refused("NoSuchBucket", call, Bucket="nothing-here")
for call in (s3.get_bucket_analytics_configuration, s3.get_bucket_inventory_configuration,
             s3.get_bucket_metrics_configuration, s3.get_bucket_intelligent_tiering_configuration):
    refused("NoSuchConfiguration", call, Id="x")
assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=B)
assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=B)
assert s3.get_bucket_request_payment(Bucket=B)["Payer"] == "BucketOwner"
assert s3.list_bucket_analytics_configurations(Bucket=B)["IsTruncated"] is False
assert s3.list_bucket_inventory_configurations(Bucket=B)["IsTruncated"] is False
assert s3.list_bucket_metrics_configurations(Bucket=B)["IsTruncated"] is False
s3.list_bucket_intelligent_tiering_configurations(Bucket=B)
for call in (s3.delete_bucket_policy, s3.delete_bucket_encryption, s3.delete_public_access_block,
             s3.delete_bucket_ownership_controls, s3.delete_bucket_website, s3.delete_bucket_replication):
    call(Bucket=B)

# What cannot be set says so by its name.
rule = {"Status": "Enabled"}
for name, call, kwargs in [
    ("PutBucketPolicy", s3.put_bucket_policy, {"Policy": '{"Version": "2012-10-17", "Statement": []}'}),
    ("PutBucketEncryption", s3.put_bucket_encryption, {"ServerSideEncryptionConfiguration": {
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}}),
    ("PutPublicAccessBlock", s3.put_public_access_block, {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}}),
    ("PutBucketOwnershipControls", s3.put_bucket_ownership_controls, {"OwnershipControls": {
        "Rules": [{"ObjectOwnership": "ObjectWriter"}]}}),
    ("PutBucketWebsite", s3.put_bucket_website, {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "index.html"}}}),
    ("PutBucketLogging", s3.put_bucket_logging, {"BucketLoggingStatus": {
        "LoggingEnabled": {"TargetBucket": B, "TargetPrefix": "x"}}}),
    ("PutBucketReplication", s3.put_bucket_replication, {"ReplicationConfiguration": {
        "Role": "x", "Rules": [{"Status": "Enabled", "Destination": {"Bucket": "arn:aws:s3:::other"}}]}}),
    ("PutBucketAccelerateConfiguration", s3.put_bucket_accelerate_configuration, {
        "AccelerateConfiguration": {"Status": "Enabled"}}),
    ("PutBucketRequestPayment", s3.put_bucket_request_payment, {
        "RequestPaymentConfiguration": {"Payer": "Requester"}}),
    ("PutBucketMetricsConfiguration", s3.put_bucket_metrics_configuration, {
        "Id": "x", "MetricsConfiguration": {"Id": "x"}}),
    ("PutObjectLockConfiguration", s3.put_object_lock_configuration, {
        "ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}),
]:
    assert name in refused("NotImplemented", call, **kwargs)["Error"]["Message"]
