const aws = require("@pulumi/aws");
const common = require("./common");

// Who takes the messages that nobody could handle.
const unhandled = new aws.sqs.Queue(`${common.prefix}-unhandled`, { messageRetentionSeconds: 14 * 24 * 3600 });

function createQueue(name, deadLetter) {
    return new aws.sqs.Queue(`${common.prefix}-${name}`, {
        visibilityTimeoutSeconds: 60,
        redrivePolicy: deadLetter
            ? unhandled.arn.apply((arn) => JSON.stringify({ deadLetterTargetArn: arn, maxReceiveCount: 4 }))
            : undefined,
    });
}

exports.certIssuer = {
    request: createQueue("c-i-req", true),
    response: createQueue("c-i-res", true),
    prepare: createQueue("c-i-prep", true),
    initOrg: createQueue("c-i-init-org", true),
    initOrgRes: createQueue("c-i-init-org-res", true),
    confirmTxs: createQueue("confirm-tx"),
};
