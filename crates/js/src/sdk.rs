//! The JavaScript that is part of this crate: the runtime's own, and the SDK that programs import.

/// The module that the host talks to.
pub(crate) const MAIN: &str = "tandem:runtime/main.js";

macro_rules! modules {
    ($($name:literal => $path:literal),* $(,)?) => {
        &[$(($name, include_str!($path))),*]
    };
}

const MODULES: &[(&str, &str)] = modules! {
    "tandem:runtime/main.js" => "runtime/main.js",
    "tandem:runtime/host.js" => "runtime/host.js",
    "tandem:runtime/globals.js" => "runtime/globals.js",
    "tandem:runtime/commonjs.js" => "runtime/commonjs.js",
    "tandem:runtime/module.js" => "runtime/module.js",
    "tandem:runtime/process.js" => "runtime/process.js",
    "tandem:runtime/timers_promises.js" => "runtime/timers_promises.js",
    "tandem:sdk/program.js" => "../../../sdk/js/src/program.js",
    "tandem:sdk/host.js" => "../../../sdk/js/src/host.js",
    "tandem:sdk/errors.js" => "../../../sdk/js/src/errors.js",
    "tandem:sdk/check.js" => "../../../sdk/js/src/check.js",
    "tandem:sdk/output.js" => "../../../sdk/js/src/output.js",
    "tandem:sdk/values.js" => "../../../sdk/js/src/values.js",
    "tandem:sdk/registry.js" => "../../../sdk/js/src/registry.js",
    "tandem:sdk/resource.js" => "../../../sdk/js/src/resource.js",
    "tandem:sdk/consumer.js" => "../../../sdk/js/src/consumer.js",
    "tandem:sdk/bucket.js" => "../../../sdk/js/src/bucket.js",
    "tandem:sdk/queue.js" => "../../../sdk/js/src/queue.js",
    "tandem:sdk/aws.js" => "../../../sdk/js/src/aws.js",
    "tandem:sdk/function.js" => "../../../sdk/js/src/function.js",
    "tandem:sdk/service.js" => "../../../sdk/js/src/service.js",
    "tandem:sdk/code.js" => "../../../sdk/js/src/code.js",
    "tandem:sdk/build.js" => "../../../sdk/js/src/build.js",
    "tandem:sdk/stream.js" => "../../../sdk/js/src/stream.js",
    "tandem:sdk/task.js" => "../../../sdk/js/src/task.js",
    "tandem:sdk/timer.js" => "../../../sdk/js/src/timer.js",
    "tandem:sdk/topic.js" => "../../../sdk/js/src/topic.js",
    "tandem:sdk/volume.js" => "../../../sdk/js/src/volume.js",
    "tandem:sdk/entity.js" => "../../../sdk/js/src/entity.js",
    "tandem:sdk/workflow.js" => "../../../sdk/js/src/workflow.js",
    "tandem:sdk/config.js" => "../../../sdk/js/src/config.js",
    "tandem:sdk/durable/index.js" => "../../../sdk/js/src/durable/index.js",
    "tandem:sdk/durable/actions.js" => "../../../sdk/js/src/durable/actions.js",
    "tandem:sdk/durable/client.js" => "../../../sdk/js/src/durable/client.js",
    "tandem:sdk/durable/context.js" => "../../../sdk/js/src/durable/context.js",
    "tandem:sdk/durable/critical.js" => "../../../sdk/js/src/durable/critical.js",
    "tandem:sdk/durable/entity.js" => "../../../sdk/js/src/durable/entity.js",
    "tandem:sdk/durable/entity_id.js" => "../../../sdk/js/src/durable/entity_id.js",
    "tandem:sdk/durable/errors.js" => "../../../sdk/js/src/durable/errors.js",
    "tandem:sdk/durable/execution.js" => "../../../sdk/js/src/durable/execution.js",
    "tandem:sdk/durable/guid.js" => "../../../sdk/js/src/durable/guid.js",
    "tandem:sdk/durable/history.js" => "../../../sdk/js/src/durable/history.js",
    "tandem:sdk/durable/http.js" => "../../../sdk/js/src/durable/http.js",
    "tandem:sdk/durable/quiet.js" => "../../../sdk/js/src/durable/quiet.js",
    "tandem:sdk/durable/soon.js" => "../../../sdk/js/src/durable/soon.js",
    "tandem:sdk/durable/tasks.js" => "../../../sdk/js/src/durable/tasks.js",
    "tandem:sdk/durable/turn.js" => "../../../sdk/js/src/durable/turn.js",
    "tandem:sdk/durable/values.js" => "../../../sdk/js/src/durable/values.js",
    "tandem:sdk/durable/wrong.js" => "../../../sdk/js/src/durable/wrong.js",
    "tandem:sdk/cloud.js" => "../../../sdk/js/src/cloud.js",
    "tandem:sdk/pulumi.js" => "../../../sdk/js/src/pulumi.js",
    "tandem:sdk/tandem.js" => "../../../sdk/js/src/tandem.js",
};

/// The source of a module of ours.
pub(crate) fn source(name: &str) -> Option<&'static str> {
    MODULES.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}
