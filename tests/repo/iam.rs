//! The policies in `deploy/iam`: each can be read, grants no more than named actions, and is told
//! of in the README beside it.

use std::path::Path;

use serde_json::Value;

use crate::Violation;

/// Checks every policy.
pub(crate) fn check(root: &Path) -> Vec<Violation> {
    let folder = root.join("deploy/iam");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut violations = Vec::new();
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        if Path::new(&name).extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let path = Path::new("deploy/iam").join(&name);
        let mut add = |what: String| violations.push(Violation::new(&path, 0, what));
        if !readme.contains(&format!("`{name}`")) {
            add("README.md says nothing about this file".to_owned());
        }
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        mistakes(&text).into_iter().for_each(&mut add);
    }
    violations
}

/// What is wrong with a policy (IAM User Guide, "IAM JSON policy elements reference").
fn mistakes(text: &str) -> Vec<String> {
    let policy: Value = match serde_json::from_str(text) {
        Ok(policy) => policy,
        Err(error) => return vec![format!("not JSON: {error}")],
    };
    let mut found = Vec::new();
    if policy["Version"] != "2012-10-17" {
        found.push("Version is not 2012-10-17".to_owned());
    }
    let statements = policy["Statement"].as_array().map_or(&[][..], Vec::as_slice);
    if statements.is_empty() {
        found.push("there is no statement".to_owned());
    }
    for statement in statements {
        let one = statement["Action"].as_str().into_iter();
        let several = statement["Action"].as_array().into_iter().flatten();
        let actions: Vec<&str> = one.chain(several.filter_map(Value::as_str)).collect();
        let named = |action: &&str| {
            action.split_once(':').is_some_and(|(service, name)| {
                !service.is_empty()
                    && !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_alphanumeric())
            })
        };
        if actions.is_empty() || !actions.iter().all(named) {
            found.push(format!("actions are named one by one: {actions:?}"));
        }
        if statement["Effect"] != "Allow" {
            found.push("Effect is not Allow".to_owned());
        }
        if statement.get("Resource").is_none() && statement.get("Principal").is_none() {
            found.push("a statement has a Resource, a Principal or both".to_owned());
        }
        if statement["Principal"] == "*" {
            found.push("a role or a queue is not for everybody".to_owned());
        }
    }
    found
}

#[test]
fn a_wide_policy_is_a_mistake() {
    let wide = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["sqs:*"], "Principal": "*"}]}"#;
    assert_eq!(
        mistakes(wide),
        ["actions are named one by one: [\"sqs:*\"]", "a role or a queue is not for everybody"]
    );
    assert!(mistakes("{").first().is_some_and(|text| text.starts_with("not JSON")));
    assert_eq!(mistakes("{}").len(), 2);
}
