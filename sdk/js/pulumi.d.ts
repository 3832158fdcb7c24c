// The names of Pulumi under which programs may import the same SDK. Only what is listed here exists.

declare module "@pulumi/cloud" {
    export { Bucket, BucketArgs, BucketFilter, BucketHandler, BucketHandlerArgs, Context } from "@tandem/cloud";
    export { Function, FunctionArgs } from "@tandem/cloud";
    export { Run, RunArgs, RunStatus, Task, TaskArgs, TaskBuild } from "@tandem/cloud";
    export { Queue, QueueArgs, Topic, timer } from "@tandem/cloud";
}

declare module "@pulumi/aws" {
    import { Input, Queue as TandemQueue, ResourceOptions } from "@tandem/cloud";

    export namespace sqs {
        interface QueueArgs {
            name?: Input<string>;
            visibilityTimeoutSeconds?: Input<number>;
            messageRetentionSeconds?: Input<number>;
            delaySeconds?: Input<number>;
            receiveWaitTimeSeconds?: Input<number>;
            maxMessageSize?: Input<number>;
            /** JSON: `{"deadLetterTargetArn": …, "maxReceiveCount": …}`. */
            redrivePolicy?: Input<string> | undefined;
            fifoQueue?: boolean;
            contentBasedDeduplication?: Input<boolean>;
            deduplicationScope?: Input<"queue" | "messageGroup">;
            fifoThroughputLimit?: Input<"perQueue" | "perMessageGroupId">;
            tags?: Input<Record<string, Input<string>>>;
            /** Without effect: nothing is encrypted by a key service here. */
            sqsManagedSseEnabled?: Input<boolean>;
        }

        class Queue extends TandemQueue {
            constructor(name: string, args?: QueueArgs, options?: ResourceOptions);
        }
    }
}

declare module "@pulumi/pulumi" {
    export { Config, getProject, getStack, log, runtime } from "@tandem/cloud";
    export {
        Input,
        Output,
        Unwrap,
        all,
        concat,
        interpolate,
        isSecret,
        output,
        secret,
        unsecret,
    } from "@tandem/cloud";
    export { Resource, ResourceOptions } from "@tandem/cloud";
}
