const pulumi = require("@pulumi/pulumi");

exports.prefix = `${pulumi.getProject()}-${pulumi.getStack()}`;
