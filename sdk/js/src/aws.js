// What `@pulumi/aws` offers, as far as it exists here: resources of the embedded cloud under the names that AWS's have.

import { SqsQueue } from "./queue.js";

export const sqs = { Queue: SqsQueue };

// For `import aws from …`, which works with a CommonJS package of that name.
import * as everything from "./aws.js";
export default everything;
