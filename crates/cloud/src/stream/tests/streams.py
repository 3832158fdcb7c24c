import datetime
import hashlib
import json
import os
import subprocess
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

once = Config(retries={"max_attempts": 1})
kinesis = boto3.client("kinesis", config=once)
others = boto3.client(
    "kinesis",
    config=once,
    aws_access_key_id=os.environ["OTHER_ACCESS_KEY_ID"],
    aws_secret_access_key=os.environ["OTHER_SECRET_ACCESS_KEY"],
)


def refused(name, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == name, error
        return error.response["Error"]["Message"]
    raise AssertionError(f"{name} was expected")


# What there is.
assert kinesis.list_streams()["StreamNames"] == ["other-posts", "posts"]
page = kinesis.list_streams(Limit=1)
assert page["HasMoreStreams"] and page["StreamNames"] == ["other-posts"], page
assert kinesis.list_streams(NextToken=page["NextToken"])["StreamNames"] == ["posts"]
found = [name for page in kinesis.get_paginator("list_streams").paginate(Limit=1) for name in page["StreamNames"]]
assert found == ["other-posts", "posts"], found
summary = kinesis.describe_stream_summary(StreamName="posts")["StreamDescriptionSummary"]
arn = summary["StreamARN"]
assert (summary["OpenShardCount"], summary["RetentionPeriodHours"], summary["StreamStatus"]) == (3, 24, "ACTIVE")
assert abs(summary["StreamCreationTimestamp"].timestamp() - time.time()) < 600
kinesis.get_waiter("stream_exists").wait(StreamName="posts")
described = kinesis.describe_stream(StreamARN=arn, Limit=2)["StreamDescription"]
assert described["HasMoreShards"] and len(described["Shards"]) == 2
shards = kinesis.list_shards(StreamName="posts")["Shards"]
assert [shard["ShardId"] for shard in shards] == [f"shardId-{n:012}" for n in range(3)]
edges = [int(shard["HashKeyRange"][edge]) for shard in shards for edge in ("StartingHashKey", "EndingHashKey")]
assert (edges[0], edges[-1]) == (0, 2**128 - 1) and edges[1] + 1 == edges[2] and edges[3] + 1 == edges[4]
paged = kinesis.list_shards(StreamName="posts", MaxResults=2)
assert kinesis.list_shards(NextToken=paged["NextToken"])["Shards"] == shards[2:]
after = kinesis.list_shards(StreamName="posts", ShardFilter={"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000000"})
assert after["Shards"] == shards[1:]


def shard_of(number):
    return next(
        shard["ShardId"]
        for shard in shards
        if int(shard["HashKeyRange"]["StartingHashKey"]) <= number <= int(shard["HashKeyRange"]["EndingHashKey"])
    )


def iterator(shard, kind, **how):
    return kinesis.get_shard_iterator(StreamName="posts", ShardId=shard, ShardIteratorType=kind, **how)["ShardIterator"]


def read(iterator, **how):
    return kinesis.get_records(ShardIterator=iterator, **how)


# A record goes where the hash of its key says, or the hash that is given.
latest = {shard["ShardId"]: iterator(shard["ShardId"], "LATEST") for shard in shards}
put = kinesis.put_record(StreamName="posts", PartitionKey="ann", Data=b"\x00\xffbytes")
home = shard_of(int(hashlib.md5(b"ann").hexdigest(), 16))
assert put["ShardId"] == home and put["SequenceNumber"].isdigit()
told = kinesis.put_record(StreamName="posts", PartitionKey="ann", Data=b"x", ExplicitHashKey=str(2**128 - 1))
assert told["ShardId"] == "shardId-000000000002"
records = [{"PartitionKey": "ann", "Data": f"{n}".encode()} for n in range(500)]
answer = kinesis.put_records(StreamARN=arn, Records=records)
assert answer["FailedRecordCount"] == 0 and len(answer["Records"]) == 500
numbers = [int(record["SequenceNumber"]) for record in answer["Records"]]
assert numbers == sorted(set(numbers)) and numbers[0] > int(put["SequenceNumber"])
assert {record["ShardId"] for record in answer["Records"]} == {home}

# All five ways to begin.
page = read(iterator(home, "TRIM_HORIZON"))
first = page["Records"][0]
assert (first["Data"], first["PartitionKey"], first["SequenceNumber"]) == (b"\x00\xffbytes", "ann", put["SequenceNumber"])
assert abs(first["ApproximateArrivalTimestamp"].timestamp() - time.time()) < 600
mine = [record["Data"] for record in page["Records"] if record["Data"] not in (b"\x00\xffbytes", b"x")]
assert mine == [f"{n}".encode() for n in range(500)] and page["MillisBehindLatest"] == 0
assert read(page["NextShardIterator"])["Records"] == []
assert [r["Data"] for r in read(latest[home])["Records"]] == [r["Data"] for r in page["Records"]]
at = read(iterator(home, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=str(numbers[10])), Limit=2)
assert [r["Data"] for r in at["Records"]] == [b"10", b"11"]
assert read(at["NextShardIterator"], Limit=1)["Records"][0]["Data"] == b"12"
after = read(iterator(home, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=str(numbers[10])), Limit=1)
assert after["Records"][0]["Data"] == b"11"
long_ago = datetime.datetime(2020, 1, 1)
assert read(iterator(home, "AT_TIMESTAMP", Timestamp=long_ago), Limit=1)["Records"][0]["Data"] == b"\x00\xffbytes"
ahead = datetime.datetime.now() + datetime.timedelta(hours=1)
assert read(iterator(home, "AT_TIMESTAMP", Timestamp=ahead))["Records"] == []

# What is kept for how long.
kinesis.increase_stream_retention_period(StreamName="posts", RetentionPeriodHours=100)
assert kinesis.describe_stream(StreamName="posts")["StreamDescription"]["RetentionPeriodHours"] == 100
refused("InvalidArgumentException", kinesis.increase_stream_retention_period, StreamName="posts", RetentionPeriodHours=50)
refused("InvalidArgumentException", kinesis.increase_stream_retention_period, StreamName="posts", RetentionPeriodHours=9000)
kinesis.decrease_stream_retention_period(StreamName="posts", RetentionPeriodHours=24)

# Bad input.
for key in ("", "x" * 257):
    unchecked = boto3.client("kinesis", config=Config(retries={"max_attempts": 1}, parameter_validation=False))
    refused("InvalidArgumentException", unchecked.put_record, StreamName="posts", PartitionKey=key, Data=b"x")
message = refused("InvalidArgumentException", kinesis.put_record, StreamName="posts", PartitionKey="k", Data=b"x" * (1 << 20))
assert "E0843" in message, message
refused("InvalidArgumentException", kinesis.put_records, StreamName="posts", Records=[{"PartitionKey": "k", "Data": b"x"}] * 501)
many = [{"PartitionKey": "k", "Data": b"x" * 1_000_000}] * 11
refused("InvalidArgumentException", kinesis.put_records, StreamName="posts", Records=many)
assert kinesis.put_records(StreamName="other-posts", Records=many[:10])["FailedRecordCount"] == 0
refused("InvalidArgumentException", kinesis.put_record, StreamName="posts", PartitionKey="k", Data=b"x", ExplicitHashKey=str(2**128))
refused("ResourceNotFoundException", kinesis.put_record, StreamName="nothing", PartitionKey="k", Data=b"x")
refused("ResourceNotFoundException", iterator, shard="shardId-000000000003", kind="LATEST")
refused("InvalidArgumentException", iterator, shard=home, kind="SOMEWHERE")
refused("InvalidArgumentException", iterator, shard=home, kind="AT_SEQUENCE_NUMBER")
foreign = next(shard["ShardId"] for shard in shards if shard["ShardId"] != home)
refused("InvalidArgumentException", iterator, shard=foreign, kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=str(numbers[0]))
refused("InvalidArgumentException", kinesis.get_records, ShardIterator="nonsense")
refused("InvalidArgumentException", kinesis.get_records, ShardIterator=latest[home], Limit=10_001)
refused("UnknownOperationException", kinesis.put_record, StreamName="posts", PartitionKey="k", Data=b"x", DryRun=True)
refused("ResourceNotFoundException", kinesis.describe_stream, StreamName="posts", ExclusiveStartShardId="nonsense")
assert kinesis.list_shards(StreamName="posts", ExclusiveStartShardId="shardId-004294967295")["Shards"] == []
for action, arguments in (
    ("create_stream", {"StreamName": "new"}),
    ("delete_stream", {"StreamName": "posts"}),
    ("split_shard", {"StreamName": "posts", "ShardToSplit": home, "NewStartingHashKey": "7"}),
    ("list_stream_consumers", {"StreamARN": arn}),
    ("describe_limits", {}),
):
    refused("UnknownOperationException", getattr(kinesis, action), **arguments)

# Another stack has its own.
assert others.list_streams()["StreamNames"] == ["theirs"]
refused("ResourceNotFoundException", others.describe_stream, StreamName="posts")
refused("ResourceNotFoundException", others.put_record, StreamARN=arn, PartitionKey="k", Data=b"x")
refused("ResourceNotFoundException", others.get_records, ShardIterator=latest[home])

# The AWS CLI, as the guide has it: the same for its version 1, which takes what stands after `--data` for text, and its version 2.
arguments = ["--endpoint-url", os.environ["AWS_ENDPOINT_URL"], "--stream-name", "posts", "--partition-key", "ann"]
put = subprocess.run(
    [sys.executable, os.environ["AWS"], "kinesis", "put-record", *arguments, "--data", "fileb:///dev/stdin"],
    input=b'"hello"\n',
    capture_output=True,
)
assert put.returncode == 0, put.stderr
put = json.loads(put.stdout)
at = iterator(shard=put["ShardId"], kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=put["SequenceNumber"])
assert kinesis.get_records(ShardIterator=at)["Records"][0]["Data"] == b'"hello"\n'
