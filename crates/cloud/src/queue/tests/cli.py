"""The stock AWS CLI, which for queues heeds `AWS_ENDPOINT_URL` only as an argument: a queue is made, filled, received from and deleted."""
import json, os, subprocess, sys


def aws(*arguments):
    done = subprocess.run([sys.executable, os.environ["AWS"], "sqs", *arguments, "--endpoint-url", os.environ["AWS_ENDPOINT_URL"]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else {}


url = aws("create-queue", "--queue-name", "cli", "--attributes", "VisibilityTimeout=5")["QueueUrl"]
sent = aws("send-message", "--queue-url", url, "--message-body", "hello", "--message-attributes",
           json.dumps({"a": {"DataType": "String", "StringValue": "b"}}))
message = aws("receive-message", "--queue-url", url, "--wait-time-seconds", "5", "--message-attribute-names", "All")["Messages"][0]
assert (message["Body"], message["MessageId"]) == ("hello", sent["MessageId"])
assert message["MessageAttributes"]["a"]["StringValue"] == "b"
aws("delete-message", "--queue-url", url, "--receipt-handle", message["ReceiptHandle"])
assert aws("get-queue-attributes", "--queue-url", url, "--attribute-names", "All")["Attributes"]["VisibilityTimeout"] == "5"
assert url in aws("list-queues")["QueueUrls"]
aws("delete-queue", "--queue-url", url)
