use std::{env, fs, os::unix::fs::PermissionsExt, process::Command, sync::Arc};

use tandem_model::{Explain, PhysicalId, Urn, resource::Recorded};

use super::{Credentials, Holder, Principal, RootKeyError};
use crate::{home::Home, resource::Resources};

fn deployed(urns: &[&str]) -> Arc<Resources> {
    let resources = Resources::default();
    for urn in urns {
        let urn: Urn = urn.parse().unwrap();
        resources.put(Recorded {
            id: PhysicalId(urn.to_string()),
            urn,
            inputs: Default::default(),
            outputs: Default::default(),
            depends_on: Vec::new(),
        });
    }
    Arc::new(resources)
}

fn of(urn: &str) -> Principal {
    Principal::Resource { urn: urn.parse().unwrap() }
}

const RESIZE: &str = "urn:tandem:shop:dev:function:resize";

#[test]
fn a_key_pair_looks_like_one_of_aws_and_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let first = Credentials::open(&home, deployed(&[RESIZE])).unwrap().for_principal(&of(RESIZE));
    assert_eq!(first.access_key_id.len(), 20);
    assert!(first.access_key_id.starts_with("AKIA"));
    assert!(first.access_key_id.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()));
    assert_eq!(first.secret_access_key.len(), 40);

    let again = Credentials::open(&home, deployed(&[RESIZE])).unwrap();
    assert_eq!(again.for_principal(&of(RESIZE)), first);
    assert_eq!(again.lookup(&first.access_key_id), Some((of(RESIZE), first.secret_access_key.clone())));
    let mode = fs::metadata(home.root_key()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!format!("{again:?} {first:?}").contains(&first.secret_access_key));
}

#[test]
fn every_principal_has_a_key_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = Credentials::open(&Home::new(folder.path()), deployed(&[])).unwrap();
    let principals = [
        of(RESIZE),
        of("urn:tandem:shop:dev:task:resize"),
        of("urn:tandem:shop:prod:function:resize"),
        Principal::Operator { stack: "shop/dev".parse().unwrap() },
    ];
    let mut secrets: Vec<_> =
        principals.iter().map(|p| credentials.for_principal(p).secret_access_key).collect();
    secrets.sort();
    secrets.dedup();
    assert_eq!(secrets.len(), principals.len());
}

#[test]
fn a_key_ends_with_its_principal() {
    let folder = tempfile::tempdir().unwrap();
    let resources = deployed(&[RESIZE]);
    let credentials = Credentials::open(&Home::new(folder.path()), resources.clone()).unwrap();
    let function = credentials.for_principal(&of(RESIZE)).access_key_id;
    let operator = Principal::Operator { stack: "shop/dev".parse().unwrap() };
    let operator = credentials.for_principal(&operator).access_key_id;
    assert!(credentials.lookup(&function).is_some());
    assert!(credentials.lookup(&operator).is_some());
    assert_eq!(credentials.lookup("AKIAAAAAAAAAAAAAAAAA"), None);

    resources.remove(tandem_model::Kind::Function, &PhysicalId(RESIZE.to_owned()));
    assert_eq!(credentials.lookup(&function), None);
    assert_eq!(credentials.lookup(&operator), None, "nothing is left in the stack");
}

#[test]
fn a_principal_reaches_its_own_stack_only() {
    let bucket: Urn = "urn:tandem:shop:dev:bucket:photos".parse().unwrap();
    assert!(of(RESIZE).may_reach(&bucket));
    assert!(!of("urn:tandem:shop:prod:function:resize").may_reach(&bucket));
    assert!(!Principal::Operator { stack: "other/dev".parse().unwrap() }.may_reach(&bucket));
}

#[test]
fn a_damaged_root_key_is_reported_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let written = r#"{"epoch":1,"key":"12"}"#;
    fs::write(home.root_key(), written).unwrap();
    let error = Credentials::open(&home, deployed(&[])).unwrap_err();
    assert!(matches!(error, RootKeyError::Damaged { .. }));
    assert!(error.help().contains("backup"));
    assert_eq!(fs::read_to_string(home.root_key()).unwrap(), written);
}

#[test]
fn raising_the_epoch_ends_all_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let before = Credentials::open(&home, deployed(&[RESIZE])).unwrap().for_principal(&of(RESIZE));
    let raised = fs::read_to_string(home.root_key()).unwrap().replace(r#""epoch":1"#, r#""epoch":2"#);
    fs::write(home.root_key(), raised).unwrap();
    let after = Credentials::open(&home, deployed(&[RESIZE])).unwrap().for_principal(&of(RESIZE));
    assert_eq!(after.access_key_id, before.access_key_id);
    assert_ne!(after.secret_access_key, before.secret_access_key);
}

const FOLDER: &str = "TANDEM_CREDENTIAL_CRASH_FOLDER";

#[test]
#[ignore = "started by the test below"]
fn first_start() {
    if let Some(folder) = env::var_os(FOLDER) {
        Credentials::open(&Home::new(folder), deployed(&[])).unwrap();
    }
}

#[test]
fn killed_while_the_root_key_is_written_the_next_start_makes_one() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let status = Command::new(env::current_exe().unwrap())
        .args(["credential::tests::first_start", "--exact", "--ignored"])
        .env(tandem_failpoint::VARIABLE, "credential.root.written")
        .env(FOLDER, folder.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success(), "the failpoint was passed");
    assert!(!home.root_key().exists());
    let made = Credentials::open(&home, deployed(&[])).unwrap().for_principal(&of(RESIZE));
    assert_eq!(Credentials::open(&home, deployed(&[])).unwrap().for_principal(&of(RESIZE)), made);
}

#[test]
fn whose_a_pair_is_that_comes_with_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = Credentials::open(&Home::new(folder.path()), deployed(&[RESIZE])).unwrap();
    let images = credentials.for_images();
    assert_eq!(credentials.holder(&images.access_key_id, &images.secret_access_key), Some(Holder::Images));
    assert_eq!(credentials.lookup(&images.access_key_id), None, "it signs nothing");
    let resize = credentials.for_principal(&of(RESIZE));
    let held = credentials.holder(&resize.access_key_id, &resize.secret_access_key);
    assert_eq!(held, Some(Holder::Principal(of(RESIZE))));
    let gone = credentials.for_principal(&of("urn:tandem:shop:dev:task:gone"));
    for (id, secret) in [
        (&images.access_key_id, &resize.secret_access_key),
        (&resize.access_key_id, &images.secret_access_key),
        (&gone.access_key_id, &gone.secret_access_key),
        (&images.access_key_id, &images.secret_access_key[..36].to_owned()),
        (&images.access_key_id, &String::new()),
        (&String::new(), &images.secret_access_key),
    ] {
        assert_eq!(credentials.holder(id, secret), None);
    }
}
