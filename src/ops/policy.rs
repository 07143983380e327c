//! What an execution role may do and who may assume it: the least that an agent needs.

use serde_json::{Value, json};

use crate::model::RuntimeName;

/// The service that runs agents.
const SERVICE: &str = "bedrock-agentcore.amazonaws.com";
/// Days after which an image without a tag is deleted. [ours: a push that replaced it is long over]
const UNTAGGED_DAYS: u32 = 7;

/// Where a role is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) partition: &'a str,
    pub(super) region: &'a str,
    pub(super) account: &'a str,
    pub(super) agent: &'a RuntimeName,
}

/// The trust policy: the service, on behalf of this account's agents in this region and of nobody else's.
pub(super) fn trust(scope: Scope<'_>) -> Value {
    let Scope { partition, region, account, .. } = scope;
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "AgentCore",
            "Effect": "Allow",
            "Principal": { "Service": SERVICE },
            "Action": "sts:AssumeRole",
            "Condition": {
                "StringEquals": { "aws:SourceAccount": account },
                "ArnLike": { "aws:SourceArn": format!("arn:{partition}:bedrock-agentcore:{region}:{account}:*") },
            },
        }],
    })
}

/// The permissions of an agent: its image where it is one (`repository` is its ARN), its logs, traces and
/// metrics, its workload identity, and the models it names or, where it names none, all.
pub(super) fn permissions(scope: Scope<'_>, repository: Option<&str>, models: Option<&[String]>) -> Value {
    let Scope { partition, region, account, agent } = scope;
    let logs = format!("arn:{partition}:logs:{region}:{account}:log-group");
    let identity =
        format!("arn:{partition}:bedrock-agentcore:{region}:{account}:workload-identity-directory/default");
    let mut statements = Vec::new();
    if let Some(repository) = repository {
        statements.push(json!({
            "Sid": "PullImage", "Effect": "Allow",
            "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            "Resource": repository,
        }));
        statements.push(json!({
            "Sid": "LogInToRegistry", "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*",
        }));
    }
    statements.push(json!({
        "Sid": "WriteLogs", "Effect": "Allow",
        "Action": [
            "logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents",
        ],
        "Resource": [
            format!("{logs}:/aws/bedrock-agentcore/runtimes/*"),
            format!("{logs}:/aws/bedrock-agentcore/runtimes/*:log-stream:*"),
        ],
    }));
    statements.push(json!({
        "Sid": "FindLogs", "Effect": "Allow", "Action": "logs:DescribeLogGroups", "Resource": format!("{logs}:*"),
    }));
    statements.push(json!({
        "Sid": "WriteTraces", "Effect": "Allow",
        "Action": [
            "xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments",
        ],
        "Resource": "*",
    }));
    statements.push(json!({
        "Sid": "WriteMetrics", "Effect": "Allow", "Action": "cloudwatch:PutMetricData", "Resource": "*",
        "Condition": { "StringEquals": { "cloudwatch:namespace": "bedrock-agentcore" } },
    }));
    statements.push(json!({
        "Sid": "OwnIdentity", "Effect": "Allow",
        "Action": [
            "bedrock-agentcore:GetWorkloadAccessToken", "bedrock-agentcore:GetWorkloadAccessTokenForJWT",
            "bedrock-agentcore:GetWorkloadAccessTokenForUserId",
        ],
        "Resource": [identity.clone(), format!("{identity}/workload-identity/{agent}-*")],
    }));
    if let Some(resources) = models_of(scope, models) {
        statements.push(json!({
            "Sid": "CallModels", "Effect": "Allow",
            "Action": ["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"],
            "Resource": resources,
        }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The ARNs of the models; nothing when the agent is to call none.
fn models_of(scope: Scope<'_>, models: Option<&[String]>) -> Option<Vec<String>> {
    let Scope { partition, region, account, .. } = scope;
    let all = |what: &str| {
        vec![
            format!("arn:{partition}:bedrock:*::foundation-model/{what}"),
            format!("arn:{partition}:bedrock:{region}:{account}:inference-profile/{what}"),
        ]
    };
    let Some(models) = models else { return Some(all("*")) };
    let resources: Vec<String> = models
        .iter()
        .flat_map(|model| {
            if model.starts_with("arn:") {
                return vec![model.clone()];
            }
            // An inference profile such as `us.anthropic.x` calls `anthropic.x` in whichever region has room.
            let mut resources = all(model);
            if let Some((area, base)) = model.split_once('.')
                && base.contains('.')
                && area.len() <= "global".len()
            {
                resources.push(format!("arn:{partition}:bedrock:*::foundation-model/{base}"));
            }
            resources
        })
        .collect();
    (!resources.is_empty()).then_some(resources)
}

/// The lifecycle policy of a repository: what has lost its tag is deleted.
pub(super) fn untagged_images() -> Value {
    json!({ "rules": [{
        "rulePriority": 1,
        "description": "images without a tag",
        "selection": {
            "tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": UNTAGGED_DAYS,
        },
        "action": { "type": "expire" },
    }] })
}

/// True when a trust policy lets the service assume the role.
pub(super) fn trusts_the_service(trust: &Value) -> bool {
    let statements = match trust.get("Statement") {
        Some(Value::Array(list)) => list.clone(),
        Some(one @ Value::Object(_)) => vec![one.clone()],
        _ => return false,
    };
    let names = |value: Option<&Value>, wanted: &dyn Fn(&str) -> bool| match value {
        Some(Value::String(text)) => wanted(text),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(wanted),
        _ => false,
    };
    statements.iter().any(|statement| {
        statement.get("Effect").and_then(Value::as_str) == Some("Allow")
            && names(statement.get("Action"), &|action| {
                matches!(action.to_ascii_lowercase().as_str(), "sts:assumerole" | "sts:*" | "*")
            })
            && names(statement.pointer("/Principal/Service"), &|service| service == SERVICE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(look: impl FnOnce(Scope<'_>) -> T) -> T {
        let agent = "coder".parse().unwrap();
        look(Scope { partition: "aws-cn", region: "cn-north-1", account: "123456789012", agent: &agent })
    }

    #[test]
    fn policies_follow_the_partition_and_name_nothing_of_others() {
        let repository = "arn:aws-cn:ecr:cn-north-1:123456789012:repository/team/x/coder";
        let policy = with(|s| permissions(s, Some(repository), None)).to_string();
        assert!(!policy.contains("arn:aws:"), "{policy}");
        // The whole path of a nested repository, not its last part.
        assert!(policy.contains(repository));
        let trust = with(trust);
        assert!(trusts_the_service(&trust));
        assert!(trust.to_string().contains("arn:aws-cn:bedrock-agentcore:cn-north-1:123456789012:*"));
        let code = with(|s| permissions(s, None, Some(&[]))).to_string();
        assert!(!code.contains("ecr:") && !code.contains("bedrock:Invoke"), "{code}");
    }

    #[test]
    fn named_models_are_the_only_ones() {
        let models =
            ["us.anthropic.claude-x".to_owned(), "arn:aws-cn:bedrock:r::foundation-model/m".to_owned()];
        let resources = with(|s| models_of(s, Some(&models))).unwrap();
        assert!(resources.iter().any(|r| r.ends_with("foundation-model/anthropic.claude-x")));
        assert!(resources.iter().any(|r| r.ends_with("inference-profile/us.anthropic.claude-x")));
        assert!(
            resources.contains(&models[1]) && !resources.iter().any(|r| r.ends_with('*')),
            "{resources:?}"
        );
    }

    #[test]
    fn a_role_that_others_alone_may_assume_is_found_out() {
        let of = |service: Value, action: Value| {
            trusts_the_service(&json!({ "Statement": [{
                "Effect": "Allow", "Principal": { "Service": service }, "Action": action
            }] }))
        };
        assert!(of(json!(SERVICE), json!("sts:AssumeRole")));
        assert!(of(json!(["lambda.amazonaws.com", SERVICE]), json!(["sts:TagSession", "sts:AssumeRole"])));
        assert!(!of(json!("lambda.amazonaws.com"), json!("sts:AssumeRole")));
        assert!(!of(json!(SERVICE), json!("sts:TagSession")));
        assert!(!trusts_the_service(&json!({})));
    }
}
