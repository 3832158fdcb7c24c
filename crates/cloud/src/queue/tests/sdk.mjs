// The AWS SDK for JavaScript, which checks the MD5 of what it sends and receives.
import assert from "node:assert";
import {
    CreateQueueCommand, DeleteMessageBatchCommand, QueueDoesNotExist, ReceiveMessageCommand, SQSClient, SendMessageBatchCommand,
    SendMessageCommand,
} from "@aws-sdk/client-sqs";

const sqs = new SQSClient({});
const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: "sdk" }));
await sqs.send(new SendMessageCommand({
    QueueUrl, MessageBody: "Grüße",
    MessageAttributes: { raw: { DataType: "Binary", BinaryValue: new Uint8Array([0, 255]) } },
}));
const Entries = [1, 2, 3].map((n) => ({ Id: `e${n}`, MessageBody: `m${n}` }));
assert.equal((await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries }))).Successful.length, 3);
const { Messages } = await sqs.send(new ReceiveMessageCommand({
    QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 5, MessageAttributeNames: ["All"], MessageSystemAttributeNames: ["All"],
}));
assert.deepEqual(Messages.map(({ Body }) => Body).sort(), ["Grüße", "m1", "m2", "m3"]);
const [first] = Messages.filter(({ Body }) => Body === "Grüße");
assert.deepEqual([...first.MessageAttributes.raw.BinaryValue], [0, 255]);
assert.equal(first.Attributes.ApproximateReceiveCount, "1");
const receipts = Messages.map(({ ReceiptHandle }, n) => ({ Id: `${n}`, ReceiptHandle }));
assert.equal((await sqs.send(new DeleteMessageBatchCommand({ QueueUrl, Entries: receipts }))).Successful.length, 4);
await assert.rejects(
    sqs.send(new SendMessageCommand({ QueueUrl: QueueUrl.replace("sdk", "absent"), MessageBody: "x" })), QueueDoesNotExist,
);
