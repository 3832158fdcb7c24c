import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import {
    CopyObjectCommand, CreateBucketCommand, DeleteBucketCommand, DeleteObjectCommand, DeleteObjectsCommand,
    GetObjectCommand, HeadObjectCommand, ListBucketsCommand, PutObjectCommand, S3Client, paginateListObjectsV2,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { createPresignedPost } from "@aws-sdk/s3-presigned-post";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

// The address is not a name, so buckets are in the path without being asked to.
const s3 = new S3Client({ endpoint: process.env.AWS_ENDPOINT_URL, forcePathStyle: true });
const Bucket = "mine";
const bytes = async (answer) => Buffer.from(await answer.Body.transformToByteArray());
const fails = (name, command) => assert.rejects(s3.send(command), (error) => error.name === name);

await s3.send(new CreateBucketCommand({ Bucket }));
assert.deepEqual((await s3.send(new ListBucketsCommand({}))).Buckets.map((b) => b.Name), ["mine", "photos"]);

await s3.send(new PutObjectCommand({
    Bucket, Key: "ü +&", Body: "hello", ContentType: "text/plain", Metadata: { colour: "red" },
}));
const head = await s3.send(new HeadObjectCommand({ Bucket, Key: "ü +&" }));
assert.equal(head.ContentType, "text/plain");
assert.deepEqual(head.Metadata, { colour: "red" });
const whole = await s3.send(new GetObjectCommand({ Bucket, Key: "ü +&", ChecksumMode: "ENABLED" }));
assert.equal(await whole.Body.transformToString(), "hello");
const part = await s3.send(new GetObjectCommand({ Bucket, Key: "ü +&", Range: "bytes=1-3" }));
assert.equal(await part.Body.transformToString(), "ell");
await fails("NoSuchKey", new GetObjectCommand({ Bucket, Key: "nothing" }));
await fails("AccessDenied", new GetObjectCommand({ Bucket: "secrets", Key: "a" }));
await assert.rejects(s3.send(new PutObjectCommand({ Bucket, Key: "ü +&", Body: "x", IfNoneMatch: "*" })),
    (error) => error.name === "PreconditionFailed");

// In parts, from a stream of unknown length; each part has a checksum behind it.
const large = randomBytes((12 << 20) + 3);
const chunks = Array.from({ length: Math.ceil(large.length / 100_000) }, (_, n) => large.subarray(n * 100_000, (n + 1) * 100_000));
const done = await new Upload({ client: s3, params: { Bucket, Key: "large", Body: Readable.from(chunks) }, partSize: 5 << 20 }).done();
assert.match(done.ETag, /-3"$/);
assert.ok(large.equals(await bytes(await s3.send(new GetObjectCommand({ Bucket, Key: "large" })))));
await s3.send(new CopyObjectCommand({ Bucket, Key: "copied", CopySource: `${Bucket}/large` }));
assert.ok(large.equals(await bytes(await s3.send(new GetObjectCommand({ Bucket, Key: "copied" })))));

// Presigned.
const put = await getSignedUrl(s3, new PutObjectCommand({ Bucket, Key: "presigned" }), { expiresIn: 60 });
assert.equal((await fetch(put, { method: "PUT", body: "from a URL" })).status, 200);
const get = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: "presigned" }), { expiresIn: 60 });
assert.equal(await (await fetch(get)).text(), "from a URL");
assert.equal((await fetch(get, { method: "DELETE" })).status, 403);

// A form, as a browser sends it.
const { url, fields } = await createPresignedPost(s3, {
    Bucket, Key: "forms/${filename}", Conditions: [["content-length-range", 1, 100], ["starts-with", "$x-amz-meta-from", ""]],
    Fields: { "x-amz-meta-from": "a form" }, Expires: 60,
});
const form = new FormData();
for (const [name, value] of Object.entries(fields)) form.append(name, value);
form.append("file", new Blob(["a picture"]), "cat.jpg");
const posted = await fetch(url, { method: "POST", body: form });
assert.equal(posted.status, 204, await posted.text());
const cat = await s3.send(new GetObjectCommand({ Bucket, Key: "forms/cat.jpg" }));
assert.equal(await cat.Body.transformToString(), "a picture");
assert.deepEqual(cat.Metadata, { from: "a form" });

// List in pages, delete many, and the bucket.
const keys = [];
for await (const page of paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket })) keys.push(...page.Contents.map((o) => o.Key));
assert.deepEqual(keys, ["copied", "forms/cat.jpg", "large", "presigned", "ü +&"]);
await fails("BucketNotEmpty", new DeleteBucketCommand({ Bucket }));
await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: keys.slice(1).map((Key) => ({ Key })) } }));
await s3.send(new DeleteObjectCommand({ Bucket, Key: keys[0] }));
await s3.send(new DeleteBucketCommand({ Bucket }));
