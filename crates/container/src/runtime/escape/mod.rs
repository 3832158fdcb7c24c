//! The escape suite of containers: a hostile program in a real one, and what it does not achieve.
//!
//! The program is [`inside`]. Beside it runs a container that takes no part; afterwards that one must still run, another
//! must start and end well, and nothing may be left.

mod inside;

use std::{
    os::{linux::net::SocketAddrExt, unix::net},
    process::Command,
};

use tandem_model::ByteSize;

use super::{tests::Home, *};
use crate::{
    conformance::{id, logged},
    exchange::Exchange,
};

/// A container that takes no part, and what a hostile one looks for.
struct Stage {
    home: Home,
    runtime: Arc<dyn Runtime>,
    /// An abstract one of the host.
    _listener: net::UnixListener,
}

impl Stage {
    async fn set() -> Self {
        let home = Home::with(arm);
        let runtime = home.open();
        runtime.start(&id("bystander"), &home.script("echo here; sleep 600")).await.unwrap();
        let address = net::SocketAddr::from_abstract_name(abstract_name(&home)).unwrap();
        Self { home, runtime, _listener: net::UnixListener::bind_addr(&address).unwrap() }
    }

    fn hostile(&self, attack: &str) -> Spec {
        let mut spec = self.home.script("");
        let program = ["/attacker", "--exact", "runtime::escape::inside::attack", "--ignored", "--nocapture"];
        spec.args = program.map(str::to_owned).to_vec();
        spec.args.push("--test-threads=1".into());
        spec.environment = [
            ("ATTACK", attack.to_owned()),
            ("HOME_OF_HOST", self.home.containers().display().to_string()),
            ("HOST_PID", std::process::id().to_string()),
            ("ABSTRACT", abstract_name(&self.home)),
            ("SCOPED", can_scope().to_string()),
            ("DAEMON", daemon()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        spec
    }

    /// Nobody else has taken harm, and nothing is left.
    async fn all_is_well(self) {
        let (runtime, bystander, next) = (&self.runtime, id("bystander"), id("next"));
        assert_eq!(runtime.inspect(&bystander).await.unwrap(), Container::Running);
        runtime.start(&next, &self.home.script("echo fine; exit 3")).await.unwrap();
        assert_eq!(runtime.wait(&next).await.unwrap(), Exit::Code { code: 3 });
        assert_eq!(logged(&**runtime, &next, "stdout"), "fine\n");
        for one in runtime.list().await.unwrap() {
            runtime.remove(&one).await.unwrap();
        }
        self.home.assert_nothing_is_left();
    }
}

fn abstract_name(home: &Home) -> String {
    home.containers().display().to_string()
}

/// Whether this kernel can keep a container from abstract sockets of the host: since ABI 6 of Landlock.
#[expect(unsafe_code, reason = "Landlock has no wrapper in libc")]
fn can_scope() -> bool {
    const GET_VERSION: u32 = 1;
    // SAFETY: asks for a number and reads nothing.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, GET_VERSION) };
    abi >= 6
}

fn daemon() -> String {
    format!("escape-{}", std::process::id() % 1_000_000)
}

/// Puts this binary and the libraries that it needs into a layer, and nodes of devices that are never for containers.
fn arm(layer: &Path) {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    for (name, kind, major, minor) in inside::NODES {
        let kind = if *kind == 'b' { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
        mknod(&layer.join(name), kind, Mode::from_bits_truncate(0o666), makedev(*major, *minor)).unwrap();
    }
    let own = std::env::current_exe().unwrap();
    put(&own, &layer.join("attacker"));
    // The loader lists them and executes nothing.
    let listed = Command::new(&own).env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    for word in
        String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|word| word.starts_with('/'))
    {
        put(Path::new(word), &layer.join(word.trim_start_matches('/')));
    }
}

fn put(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let from = fs::canonicalize(from).unwrap();
    if fs::hard_link(&from, to).is_err() {
        fs::copy(&from, to).unwrap();
    }
}

/// Runs one attack, of which every attempt must fail.
async fn keeps(attack: &str, at_least: usize) {
    assert!(inside::ATTACKS.iter().any(|(known, _)| *known == attack));
    let stage = Stage::set().await;
    let one = id("hostile");
    stage.runtime.start(&one, &stage.hostile(attack)).await.unwrap();
    let exit = stage.runtime.wait(&one).await.unwrap();
    let said = logged(&*stage.runtime, &one, "stdout");
    assert_eq!(exit, Exit::Code { code: 0 }, "{said}{}", logged(&*stage.runtime, &one, "stderr"));
    assert!(said.contains(inside::DONE), "{said}");
    let escaped: Vec<_> = said.lines().filter(|line| line.contains(inside::ESCAPED)).collect();
    assert!(escaped.is_empty(), "{escaped:#?}");
    let kept = said.lines().filter(|line| line.contains("kept ")).count();
    assert!(kept >= at_least, "{said}");
    stage.all_is_well().await;
}

#[tokio::test]
async fn no_call_reaches_beyond_a_container() {
    keeps("calls", 40).await;
}

#[tokio::test]
async fn no_file_of_the_host_or_of_another_container_is_in_reach() {
    keeps("files", 10).await;
}

#[tokio::test]
async fn no_file_of_the_kernel_or_of_control_groups_can_be_written() {
    keeps("kernel_files", 20).await;
}

#[tokio::test]
async fn no_device_can_be_opened_by_a_node_of_ones_own() {
    keeps("devices", 12).await;
}

#[tokio::test]
async fn no_privilege_is_gained() {
    keeps("privileges", 7).await;
}

#[tokio::test]
async fn no_changed_root_leads_out() {
    keeps("chroot", 2).await;
}

#[tokio::test]
async fn no_socket_reaches_below_the_internet_or_to_the_hosts_processes() {
    keeps("sockets", 16).await;
}

#[tokio::test]
async fn no_other_process_is_in_reach_and_none_outlives_its_container() {
    keeps("processes", 7).await;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        assert_ne!(name.trim(), daemon(), "it lives on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_forks_without_end_is_bounded_and_can_be_ended() {
    let stage = Stage::set().await;
    let one = id("hostile");
    stage.runtime.start(&one, &stage.hostile("processes_without_end")).await.unwrap();
    let said = loop {
        let said = logged(&*stage.runtime, &one, "stdout");
        if said.contains("fork without an end") {
            break said;
        }
        tokio::task::yield_now().await;
    };
    assert!(said.contains("kept fork without an end"), "{said}");
    // The others do not notice.
    stage.runtime.start(&id("beside"), &stage.home.script("exit 4")).await.unwrap();
    assert_eq!(stage.runtime.wait(&id("beside")).await.unwrap(), Exit::Code { code: 4 });
    stage.runtime.signal(&one, libc::SIGKILL, true).await.unwrap();
    stage.runtime.wait(&one).await.unwrap();
    stage.all_is_well().await;
}

#[tokio::test]
async fn a_log_without_an_end_is_cut_and_the_container_goes_on() {
    let stage = Stage::set().await;
    let one = id("hostile");
    let text =
        "dd if=/dev/zero bs=1048576 count=200 2>/dev/null | busybox tr '\\0' x; echo; echo the end; exit 5";
    stage.runtime.start(&one, &stage.home.script(text)).await.unwrap();
    assert_eq!(stage.runtime.wait(&one).await.unwrap(), Exit::Code { code: 5 });
    let size = fs::metadata(stage.runtime.log_file(&one)).unwrap().len();
    assert!((1..=crate::log::PART + (1 << 20)).contains(&size), "{size}");
    assert!(logged(&*stage.runtime, &one, "stdout").ends_with("\nthe end\n"), "its end is kept");
    stage.all_is_well().await;
}

#[tokio::test]
async fn memory_taken_by_many_processes_is_bounded_together() {
    let stage = Stage::set().await;
    let one = id("hostile");
    let spec = Spec { memory: Some(ByteSize(48 << 20)), ..stage.hostile("memory_without_end") };
    stage.runtime.start(&one, &spec).await.unwrap();
    let exit = stage.runtime.wait(&one).await.unwrap();
    assert!(matches!(exit, Exit::OutOfMemory { .. }), "{exit:?}");
    stage.all_is_well().await;
}

#[tokio::test]
async fn a_container_without_a_limit_is_the_first_to_go_when_the_machine_has_no_memory() {
    let stage = Stage::set().await;
    let one = id("hostile");
    let text = "cat /proc/self/oom_score_adj; cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max";
    stage.runtime.start(&one, &stage.home.script(text)).await.unwrap();
    assert_eq!(stage.runtime.wait(&one).await.unwrap(), Exit::Code { code: 0 });
    let said = logged(&*stage.runtime, &one, "stdout");
    let numbers: Vec<u64> = said.lines().filter_map(|line| line.parse().ok()).collect();
    let total = fs::read_to_string("/proc/meminfo").unwrap();
    let total = total.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")).unwrap();
    assert_eq!(numbers[0], 500, "{said}");
    assert!(numbers[1] < total.trim().parse::<u64>().unwrap() * 1024, "{said}");
    stage.all_is_well().await;
}

#[tokio::test]
async fn links_in_an_image_do_not_lead_a_mount_out_of_it() {
    let outside = tempfile::TempDir::new().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let home = Home::with(|layer| inside::trap(layer, &victim));
    let (runtime, one) = (home.open(), id("one"));
    let text = "cat /etc/hosts /etc/resolv.conf; echo x > /etc/hosts; echo x > /etc/resolv.conf; true";
    let text = format!("{text}; echo x > $TANDEM_RESULT; echo x > /run/tandem/new; true");
    let given = Exchange { input: Some("1".to_owned()), event: None };
    if runtime.start(&one, &Spec { exchange: Some(given), ..home.script(&text) }).await.is_ok() {
        runtime.wait(&one).await.unwrap();
        assert!(!logged(&*runtime, &one, "stdout").contains("untouched"));
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    runtime.remove(&one).await.unwrap();
    home.assert_nothing_is_left();
}

#[tokio::test]
async fn a_working_directory_through_an_open_file_of_the_runtime_is_no_way_out() {
    let home = Home::new();
    let runtime = home.open();
    let hidden = home.containers();
    // CVE-2024-21626: a runtime that leaves a folder of the host open lets the working directory be it.
    for number in 3..16 {
        let one = id(&format!("fd-{number}"));
        let text = format!("cat ../../../../../../../..{0}/images/* && echo seen; true", hidden.display());
        let spec = Spec { working_dir: format!("/proc/self/fd/{number}"), ..home.script(&text) };
        if runtime.start(&one, &spec).await.is_ok() {
            runtime.wait(&one).await.unwrap();
            assert_eq!(logged(&*runtime, &one, "stdout"), "", "{number}");
        }
        runtime.remove(&one).await.unwrap();
    }
    home.assert_nothing_is_left();
}
