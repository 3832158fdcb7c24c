// The names of Pulumi under which programs may import the same SDK. Only what is listed here exists.

declare module "@pulumi/cloud" {
    export { Bucket, BucketArgs, BucketFilter, BucketHandler, BucketHandlerArgs, Context } from "@tandem/cloud";
    export { Function, FunctionArgs } from "@tandem/cloud";
    export { Run, RunArgs, RunStatus, Task, TaskArgs, TaskBuild } from "@tandem/cloud";
    export { Topic, timer } from "@tandem/cloud";
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
