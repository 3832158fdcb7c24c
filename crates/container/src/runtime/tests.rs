use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use tandem_model::ByteSize;
use tempfile::TempDir;

use super::*;
use crate::{Image, prepared::Prepared};

const IMAGE: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";

/// A folder of its own with one image: busybox.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let layer = folder.path().join("layer");
        busybox(&layer);
        let image = Image {
            digest: IMAGE.into(),
            names: vec![],
            size: ByteSize(0),
            created: jiff::Timestamp::UNIX_EPOCH,
            entrypoint: vec![],
            command: vec![],
            environment: vec![],
            working_dir: String::new(),
            user: String::new(),
        };
        let layout = Layout::new(&folder.path().join("containers"));
        fs::create_dir_all(layout.root()).unwrap();
        prepared::write(&layout, &Prepared { image, layers: vec![layer], pin: "none".into() }).unwrap();
        Self { folder }
    }
    fn open(&self) -> Arc<dyn Runtime> {
        OciRuntime::open(&self.folder.path().join("containers"), None)
    }
}

fn busybox(root: &Path) {
    for folder in ["bin", "etc", "tmp"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| path.exists());
    fs::copy(program.expect("these tests need the package busybox-static"), root.join("bin/busybox"))
        .unwrap();
    for name in ["sh", "true", "sleep", "cat", "id", "echo"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\n").unwrap();
}

fn shell(script: &str) -> Spec {
    Spec {
        image: IMAGE.into(),
        args: vec!["sh".into(), "-c".into(), script.into()],
        environment: BTreeMap::new(),
        working_dir: String::new(),
        user: String::new(),
        memory: None,
        cpu: None,
    }
}

fn id(text: &str) -> ContainerId {
    ContainerId(text.into())
}

#[tokio::test]
async fn first() {
    let home = Home::new();
    let runtime = home.open();
    let x = id("x");
    let started = runtime.start(&x, &shell("echo hello; id; exit 3")).await.unwrap();
    assert!(started.pid > 0);
    assert_eq!(runtime.wait(&x).await.unwrap(), Exit::Code { code: 3 });
    println!("{}", fs::read_to_string(runtime.log_file(&x)).unwrap());
    runtime.remove(&x).await.unwrap();
    assert!(runtime.list().await.unwrap().is_empty());
    println!(
        "{}",
        String::from_utf8_lossy(
            &Command::new("find").arg(home.folder.path().join("containers")).output().unwrap().stdout
        )
    );
    let bad = runtime.start(&x, &Spec { args: vec!["/nope".into()], ..shell("") }).await.unwrap_err();
    println!("{bad}");
    println!(
        "{}",
        String::from_utf8_lossy(
            &Command::new("find").arg(home.folder.path().join("containers")).output().unwrap().stdout
        )
    );
}

#[tokio::test]
async fn a_container_can_neither_mount_nor_make_namespaces() {
    let home = Home::new();
    let runtime = home.open();
    let x = id("x");
    runtime
        .start(&x, &shell("busybox mount -t tmpfs none /tmp; busybox unshare -U true; (exit 5); exit $?"))
        .await
        .unwrap();
    assert_eq!(runtime.wait(&x).await.unwrap(), Exit::Code { code: 5 });
    let log = fs::read_to_string(runtime.log_file(&x)).unwrap();
    assert!(log.contains("unshare: unshare(0x10000000): Function not implemented"), "{log}");
    assert!(log.contains("mount: mounting none on /tmp failed"), "{log}");
    runtime.remove(&x).await.unwrap();
}
