"""Every action of SQS, by a boto3 of today and by one that speaks the Query protocol."""
import hashlib, json, os, time
import boto3
from botocore.exceptions import ClientError

sqs = boto3.client("sqs")
other = boto3.client("sqs", aws_access_key_id=os.environ["OTHER_ACCESS_KEY_ID"],
                     aws_secret_access_key=os.environ["OTHER_SECRET_ACCESS_KEY"])


def fails(code, call, **kwargs):
    codes = code if isinstance(code, tuple) else (code,)
    try:
        call(**kwargs)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found.split(".")[-1] in codes, (found, error)
        return error.response["Error"]["Message"]
    raise AssertionError(f"{code} expected")


# Queues.
MISSING = ("QueueDoesNotExist", "NonExistentQueue")
url = sqs.create_queue(QueueName="orders", Attributes={"VisibilityTimeout": "30"}, tags={"team": "a"})["QueueUrl"]
assert url.endswith("/000000000000/orders"), url
assert sqs.create_queue(QueueName="orders")["QueueUrl"] == url
fails(("QueueNameExists", "QueueAlreadyExists"), sqs.create_queue, QueueName="orders", Attributes={"DelaySeconds": "5"})
for name in ["", "a b", "x" * 81, "a.fifo", "ä"]:
    fails(("InvalidParameterValue", "MissingParameter"), sqs.create_queue, QueueName=name)
fails("InvalidAttributeName", sqs.create_queue, QueueName="x", Attributes={"Color": "red"})
fails("InvalidAttributeValue", sqs.create_queue, QueueName="x", Attributes={"DelaySeconds": "901"})
assert sqs.get_queue_url(QueueName="orders")["QueueUrl"] == url
fails(MISSING, sqs.get_queue_url, QueueName="absent")
fails(MISSING, other.get_queue_url, QueueName="orders")
fails(MISSING, other.send_message, QueueUrl=url, MessageBody="x")
assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"team": "a"}
sqs.tag_queue(QueueUrl=url, Tags={"cost": "1"})
sqs.untag_queue(QueueUrl=url, TagKeys=["team"])
assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"cost": "1"}
attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
assert attributes["QueueArn"] == "arn:aws:sqs:us-east-1:000000000000:orders", attributes
assert attributes["VisibilityTimeout"] == "30" and "FifoQueue" not in attributes
sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "7", "ReceiveMessageWaitTimeSeconds": "0"})
only = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout", "Policy"])["Attributes"]
assert only == {"VisibilityTimeout": "7"}, only
fails("InvalidAttributeValue", sqs.set_queue_attributes, QueueUrl=url, Attributes={"VisibilityTimeout": "43201"})
fails("InvalidAttributeName", sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["Nothing"])

# Messages.
body = "Grüße <&> \"x\"\r\n\ttab"
attrs = {"city": {"DataType": "String", "StringValue": "Köln"}, "n": {"DataType": "Number.int", "StringValue": "7"},
         "raw": {"DataType": "Binary", "BinaryValue": b"\0\1\xff"}}
sent = sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=attrs,
                        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2-3"}})
assert sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()
assert sent["MD5OfMessageAttributes"] and sent["MD5OfMessageSystemAttributes"]
# boto3 checks the MD5 of each body itself.
message = sqs.receive_message(QueueUrl=url, AttributeNames=["All"], MessageAttributeNames=["All"])["Messages"][0]
assert message["Body"] == body and message["MessageId"] == sent["MessageId"]
assert message["MessageAttributes"] == attrs, message["MessageAttributes"]
assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
assert message["Attributes"]["ApproximateReceiveCount"] == "1" and message["Attributes"]["AWSTraceHeader"] == "Root=1-2-3"
assert abs(int(message["Attributes"]["SentTimestamp"]) - time.time() * 1000) < 60_000
assert "Messages" not in sqs.receive_message(QueueUrl=url)
counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
assert counts["ApproximateNumberOfMessagesNotVisible"] == "1" and counts["ApproximateNumberOfMessages"] == "0"
handle = message["ReceiptHandle"]
sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
again = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["c.*", "ci.*", "city"])["Messages"][0]
assert list(again["MessageAttributes"]) == ["city"] and "Attributes" not in again
fails(("InvalidParameterValue",), sqs.change_message_visibility, QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=5)
fails("InvalidParameterValue", sqs.change_message_visibility, QueueUrl=url, ReceiptHandle=again["ReceiptHandle"], VisibilityTimeout=43201)
sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
fails(("MessageNotInflight",), sqs.change_message_visibility, QueueUrl=url, ReceiptHandle=again["ReceiptHandle"], VisibilityTimeout=5)
fails("ReceiptHandleIsInvalid", sqs.delete_message, QueueUrl=url, ReceiptHandle="nonsense")
second = sqs.create_queue(QueueName="second")["QueueUrl"]
fails("ReceiptHandleIsInvalid", sqs.delete_message, QueueUrl=second, ReceiptHandle=again["ReceiptHandle"])
fails("InvalidMessageContents", sqs.send_message, QueueUrl=url, MessageBody="a\0b")
fails("InvalidParameterValue", sqs.send_message, QueueUrl=url, MessageBody="x" * (1024 * 1024 + 1))
fails("InvalidParameterValue", sqs.send_message, QueueUrl=url, MessageBody="x", DelaySeconds=901)
fails("InvalidParameterValue", sqs.send_message, QueueUrl=url, MessageBody="x",
      MessageAttributes={"AWS.x": {"DataType": "String", "StringValue": "v"}})
fails("InvalidParameterValue", sqs.receive_message, QueueUrl=url, MaxNumberOfMessages=11)
fails("InvalidParameterValue", sqs.receive_message, QueueUrl=url, WaitTimeSeconds=21)
sqs.send_message(QueueUrl=url, MessageBody="y" * (1024 * 1024))
large = sqs.receive_message(QueueUrl=url)["Messages"][0]
assert len(large["Body"]) == 1024 * 1024
sqs.delete_message(QueueUrl=url, ReceiptHandle=large["ReceiptHandle"])

# Batches.
entries = [{"Id": f"e{n}", "MessageBody": f"m{n}"} for n in range(10)]
answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
assert [e["Id"] for e in answer["Successful"]] == [e["Id"] for e in entries] and "Failed" not in answer
mixed = sqs.send_message_batch(QueueUrl=second, Entries=[{"Id": "good", "MessageBody": "g"}, {"Id": "bad", "MessageBody": "\1"}])
assert [e["Id"] for e in mixed["Successful"]] == ["good"] and mixed["Failed"][0]["Code"] == "InvalidMessageContents"
assert mixed["Failed"][0]["SenderFault"] is True
fails("BatchEntryIdsNotDistinct", sqs.send_message_batch, QueueUrl=url, Entries=[{"Id": "a", "MessageBody": "1"}, {"Id": "a", "MessageBody": "2"}])
fails("TooManyEntriesInBatchRequest", sqs.send_message_batch, QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "1"} for n in range(11)])
fails("EmptyBatchRequest", sqs.send_message_batch, QueueUrl=url, Entries=[])
fails("InvalidBatchEntryId", sqs.send_message_batch, QueueUrl=url, Entries=[{"Id": "a b", "MessageBody": "1"}])
fails("BatchRequestTooLong", sqs.send_message_batch, QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "x" * 600_000} for n in range(2)])
got = []
while len(got) < 10:
    got += sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=5)["Messages"]
assert sorted(m["Body"] for m in got) == [f"m{n}" for n in range(10)]
hidden = sqs.change_message_visibility_batch(QueueUrl=url, Entries=[
    {"Id": "one", "ReceiptHandle": got[0]["ReceiptHandle"], "VisibilityTimeout": 100},
    {"Id": "two", "ReceiptHandle": "nonsense", "VisibilityTimeout": 1}])
assert [e["Id"] for e in hidden["Successful"]] == ["one"] and hidden["Failed"][0]["Code"] == "ReceiptHandleIsInvalid"
gone = sqs.delete_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(got)])
assert len(gone["Successful"]) == 10

# Delays, waiting, purging.
sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=1)
counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
assert counts["ApproximateNumberOfMessagesDelayed"] == "1" and counts["ApproximateNumberOfMessages"] == "0", counts
assert "Messages" not in sqs.receive_message(QueueUrl=url)
began = time.time()
assert sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"][0]["Body"] == "later"
assert time.time() - began < 8
sqs.purge_queue(QueueUrl=url)
assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "0"
fails("PurgeQueueInProgress", sqs.purge_queue, QueueUrl=url)

# FIFO.
fifo = sqs.create_queue(QueueName="calls.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"})["QueueUrl"]
fails("MissingParameter", sqs.send_message, QueueUrl=fifo, MessageBody="x")
numbers = [sqs.send_message(QueueUrl=fifo, MessageBody=f"f{n}", MessageGroupId="g" if n % 2 else "h")["SequenceNumber"] for n in range(6)]
assert numbers == sorted(numbers) and len(numbers[0]) == 20
twice = sqs.send_message(QueueUrl=fifo, MessageBody="f0", MessageGroupId="h")
assert twice["SequenceNumber"] == numbers[0]
first = sqs.receive_message(QueueUrl=fifo, MaxNumberOfMessages=1, AttributeNames=["All"])["Messages"][0]
assert first["Body"] == "f0" and first["Attributes"]["MessageGroupId"] == "h" and first["Attributes"]["SequenceNumber"] == numbers[0]
rest = sqs.receive_message(QueueUrl=fifo, MaxNumberOfMessages=10)["Messages"]
assert [m["Body"] for m in rest] == ["f1", "f3", "f5"], rest
assert "Messages" not in sqs.receive_message(QueueUrl=fifo, MaxNumberOfMessages=10)
sqs.delete_message(QueueUrl=fifo, ReceiptHandle=first["ReceiptHandle"])
assert [m["Body"] for m in sqs.receive_message(QueueUrl=fifo, MaxNumberOfMessages=10)["Messages"]] == ["f2", "f4"]
fails("InvalidParameterValue", sqs.send_message, QueueUrl=fifo, MessageBody="x", MessageGroupId="g", DelaySeconds=3)

# Dead letters, and back.
dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
arn = "arn:aws:sqs:us-east-1:000000000000:"
source = sqs.create_queue(QueueName="source", Attributes={"VisibilityTimeout": "0", "RedrivePolicy": json.dumps(
    {"deadLetterTargetArn": arn + "dead", "maxReceiveCount": 2})})["QueueUrl"]
fails("InvalidAttributeValue", sqs.set_queue_attributes, QueueUrl=source, Attributes={"RedrivePolicy": json.dumps(
    {"deadLetterTargetArn": arn + "calls.fifo", "maxReceiveCount": 2})})
sqs.send_message(QueueUrl=source, MessageBody="poison")
for n in range(2):
    assert sqs.receive_message(QueueUrl=source, AttributeNames=["ApproximateReceiveCount"])["Messages"][0]["Attributes"]["ApproximateReceiveCount"] == str(n + 1)
assert "Messages" not in sqs.receive_message(QueueUrl=source)
assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [source]
letter = sqs.receive_message(QueueUrl=dead, VisibilityTimeout=0, AttributeNames=["All"])["Messages"][0]
assert letter["Body"] == "poison" and letter["Attributes"]["DeadLetterQueueSourceArn"] == arn + "source"
if hasattr(sqs, "start_message_move_task"):
    fails(("UnsupportedOperation",), sqs.start_message_move_task, SourceArn=arn + "source")
    fails(("ResourceNotFoundException",), sqs.start_message_move_task, SourceArn=arn + "absent")
    task = sqs.start_message_move_task(SourceArn=arn + "dead")["TaskHandle"]
    for _ in range(100):
        told = sqs.list_message_move_tasks(SourceArn=arn + "dead")["Results"][0]
        if told["Status"] == "COMPLETED":
            break
        time.sleep(0.05)
    assert told["Status"] == "COMPLETED" and told["ApproximateNumberOfMessagesMoved"] == 1, told
    assert sqs.receive_message(QueueUrl=source)["Messages"][0]["Body"] == "poison"
    fails(("ResourceNotFoundException",), sqs.cancel_message_move_task, TaskHandle=task)

# The end.
assert len(sqs.list_queues(QueueNamePrefix="so")["QueueUrls"]) == 1
pages = [q for page in sqs.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 2}) for q in page["QueueUrls"]]
assert len(pages) == 6, pages
assert len(other.list_queues()["QueueUrls"]) == 1
for queue in pages:
    if "/seed-" in queue:
        # A program declares it.
        fails("UnsupportedOperation", sqs.delete_queue, QueueUrl=queue)
    else:
        sqs.delete_queue(QueueUrl=queue)
fails(MISSING, sqs.receive_message, QueueUrl=url)
fails(("UnsupportedOperation", *MISSING), sqs.add_permission, QueueUrl=url, Label="l", AWSAccountIds=["1"], Actions=["*"])
wrong = boto3.client("sqs", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key="wrong")
fails(("InvalidSignatureException", "SignatureDoesNotMatch"), wrong.list_queues)
