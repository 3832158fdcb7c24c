use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

use super::*;

fn project(file: &str, text: &str) -> (tempfile::TempDir, Result<Project, ProjectError>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(file), text).unwrap();
    let project = Project::find(folder.path());
    (folder, project)
}

fn invalid(text: &str) -> String {
    let (folder, project) = project("Tandem.yaml", text);
    let error = project.unwrap_err();
    assert_eq!(error.code(), "E0103", "{error}");
    error.to_string().replace(&folder.path().canonicalize().unwrap().display().to_string(), "")
}

#[test]
fn a_project_is_found_from_a_folder_below_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("Tandem.yaml"),
        "name: shop\nruntime: js\nmain: src/app.ts\ninclude: [\"t/*.html\"]\n",
    )
    .unwrap();
    let below = folder.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    let project = Project::find(&below).unwrap();
    assert_eq!(project.folder, folder.path().canonicalize().unwrap());
    assert_eq!((project.name.as_str(), project.runtime), ("shop", Runtime::Js));
    assert_eq!(project.main.as_deref(), Some("src/app.ts"));
    assert_eq!(project.include, ["t/*.html"]);
}

#[test]
fn a_pulumi_file_stands_as_it_is() {
    let text = "name: shop\ndescription: A shop\nruntime:\n  name: nodejs\n  options:\n    typescript: true\n\
                template:\n  config: {}\nconfig:\n  size:\n    type: integer\n    default: 3\n  shop:colour: red\n";
    let (_folder, project) = project("Pulumi.yaml", text);
    let project = project.unwrap();
    assert_eq!(project.runtime, Runtime::NodeJs);
    let config = project.config(&"dev".parse().unwrap()).unwrap();
    assert_eq!(
        values(config).into_iter().collect::<Vec<_>>(),
        [("shop:colour".into(), "red".into()), ("shop:size".into(), "3".into())]
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    assert_eq!(invalid("name: a b\nruntime: js\n"), {
        "/Tandem.yaml:1: the project name `a b` contains ` `; use letters, digits, `-`, `_` and `.`, starting \
         with a letter or digit"
    });
    assert_eq!(
        invalid("name: a\nruntime: python\n"),
        "/Tandem.yaml:2: there is no runtime `python`; write `js` or `nodejs`"
    );
    let typo = invalid("name: a\nruntime: js\nincludes: [x]\n");
    assert!(typo.starts_with("/Tandem.yaml:3: there is no key `includes`"), "{typo}");
    let missing = invalid("name: a\n");
    assert!(missing.ends_with("`runtime` is missing"), "{missing}");
    let broken = invalid("name: [\n");
    assert!(broken.starts_with("/Tandem.yaml:2:1: "), "{broken}");
}

#[test]
fn a_folder_without_a_project_says_how_to_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let error = Project::find(folder.path()).unwrap_err();
    assert_eq!(error.code(), "E0101");
    assert!(error.help().contains("tandem new"));
}

#[test]
fn a_stack_overrides_the_defaults_and_keeps_values_as_text() {
    let (folder, project) = project("Tandem.yaml", "name: shop\nruntime: js\nconfig:\n  a: one\n  b: two\n");
    let project = project.unwrap();
    let stack: tandem_model::StackName = "dev".parse().unwrap();
    fs::write(
        folder.path().join("Tandem.dev.yaml"),
        "config:\n  b: 2\n  shop:list: [1, x]\n  aws:region: eu\n  shop:config:old: true\n",
    )
    .unwrap();
    let config = values(project.config(&stack).unwrap());
    assert_eq!(config["shop:a"], "one");
    assert_eq!(config["shop:b"], "2");
    assert_eq!(config["shop:list"], r#"[1,"x"]"#);
    assert_eq!(config["aws:region"], "eu");
    assert_eq!(config["shop:old"], "true");
}

#[test]
fn an_encrypted_value_is_refused_with_its_line() {
    let (folder, project) = project("Pulumi.yaml", "name: shop\nruntime: nodejs\n");
    let file = folder.path().join("Pulumi.dev.yaml");
    fs::write(&file, "config:\n  shop:a: 1\n  shop:token:\n    secure: AAABAK\n").unwrap();
    let error = project.unwrap().config(&"dev".parse().unwrap()).unwrap_err();
    assert_eq!(error.code(), "E0104");
    assert!(error.to_string().contains("Pulumi.dev.yaml:3: the value of `shop:token`"), "{error}");
}

#[test]
fn setting_a_key_keeps_the_others() {
    let (_folder, project) = project("Tandem.yaml", "name: shop\nruntime: js\n");
    let project = project.unwrap();
    let stack = "dev".parse().unwrap();
    project.set_config(&stack, "size", plain("3")).unwrap();
    project.set_config(&stack, "aws:region", plain("eu")).unwrap();
    project.set_config(&stack, "shop:size", plain("true")).unwrap();
    let config = values(project.config(&stack).unwrap());
    assert_eq!(config["shop:size"], "true");
    assert_eq!(config["aws:region"], "eu");
    project.remove_config(&stack, "size").unwrap();
    assert_eq!(project.config(&stack).unwrap().0.len(), 1);
    assert_eq!(project.set_config(&stack, "a b", plain("x")).unwrap_err().code(), "E0105");
}

fn values(config: Config) -> BTreeMap<String, String> {
    config.0.into_iter().map(|(key, setting)| (key, setting.value)).collect()
}

fn plain(value: &str) -> Setting {
    Setting { value: value.to_owned(), secret: false }
}

#[test]
fn a_secret_is_in_a_file_of_its_own_that_only_its_owner_may_read() {
    let (folder, project) = project("Tandem.yaml", "name: shop\nruntime: js\n");
    let project = project.unwrap();
    let stack = "dev".parse().unwrap();
    project.set_config(&stack, "token", plain("known")).unwrap();
    project.set_config(&stack, "token", Setting { value: "s3cret".into(), secret: true }).unwrap();
    let setting = project.config(&stack).unwrap().0.remove("shop:token").unwrap();
    assert_eq!(setting, Setting { value: "s3cret".into(), secret: true });
    let file = folder.path().join("Tandem.dev.secrets");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(folder.path().join("Tandem.dev.yaml")).unwrap().contains("token"));
    // Set as plain, it is no secret any more.
    project.set_config(&stack, "token", plain("public")).unwrap();
    assert!(!fs::read_to_string(&file).unwrap().contains("token"));
    assert!(!project.config(&stack).unwrap().0["shop:token"].secret);
}

#[test]
fn what_is_written_to_a_file_is_there_whole_or_not_at_all() {
    let (folder, project) = project("Tandem.yaml", "name: shop\nruntime: js\n");
    let project = project.unwrap();
    let stack = "dev".parse().unwrap();
    project.set_config(&stack, "size", plain("3")).unwrap();
    // A file that cannot be made stands for a full disk.
    fs::create_dir(folder.path().join("Tandem.dev.yaml.new")).unwrap();
    assert_eq!(project.set_config(&stack, "size", plain("4")).unwrap_err().code(), "E0102");
    assert_eq!(project.config(&stack).unwrap().0["shop:size"].value, "3");
}
