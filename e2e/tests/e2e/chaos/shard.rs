//! A cloud on which schedules run one after the other, and how one of them runs.

use std::{
    cell::{Cell, RefCell},
    fs,
    os::unix::process::ExitStatusExt,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::join_all;
use http::Method;
use nix::sys::signal::Signal;
use serde_json::Value;
use tandem_aws_client::{Connection, Endpoint};

use super::{
    check::{self, Fate},
    client::{self, Client, Shared},
    control::{Control, Line},
    model::Model,
    program,
    schedule::{Death, Schedule, Update, Victim},
    victims,
    witness::Witness,
};
use crate::harness::{Cloud, PATIENCE, Project, Serving};

const PROJECT: &str = "chaos";

/// What all schedules of a cloud share.
pub(super) struct Shard<'a> {
    cloud: &'a Cloud,
    project: &'a Project<'a>,
    witness: &'a Witness,
    control: Control,
    endpoint: Endpoint,
    bucket: String,
    function: String,
    /// The cloud, unless it has just died.
    serving: Option<Serving>,
    /// Whether it dies at a failpoint that it may not have met yet.
    armed: bool,
    /// Of the program.
    version: u32,
    /// What earlier schedules left on purpose.
    dead_letters: usize,
    blobs: usize,
}

/// Says what failed and how to see it again.
struct Blame<'a>(&'a Schedule, RefCell<Vec<Line>>);

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in &*self.1.borrow() {
                eprintln!("  {} {} {}", line.id, line.stream, line.text);
            }
            eprintln!("\n{}repeat it: cargo xtask chaos --seed {}\n", self.0, self.0.seed);
        }
    }
}

impl<'a> Shard<'a> {
    pub(super) fn project(cloud: &'a Cloud, witness: &Witness) -> Project<'a> {
        cloud.project(PROJECT, &[("index.js", &program::text(1, witness.port))])
    }

    pub(super) fn start(cloud: &'a Cloud, project: &'a Project<'a>, witness: &'a Witness) -> Self {
        let serving = cloud.serve();
        cloud.import_busybox();
        project.up();
        let variables: Value = serde_json::from_str(&project.tandem(&["env", "--json"]).ok().stdout).unwrap();
        let endpoint = Endpoint::of_environment(&serde_json::from_value(variables).unwrap()).unwrap();
        Self {
            cloud,
            project,
            witness,
            control: Control::new(cloud.home().join("control.sock"), PROJECT),
            endpoint,
            bucket: project.output("bucket"),
            function: project.output("call"),
            serving: Some(serving),
            armed: false,
            version: 1,
            dead_letters: 0,
            blobs: 0,
        }
    }

    /// Runs one schedule and checks what it leaves.
    pub(super) fn run(&mut self, schedule: &Schedule) {
        let blame = Blame(schedule, RefCell::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.perform(schedule, &blame.1));
    }

    async fn perform(&mut self, schedule: &Schedule, shown: &RefCell<Vec<Line>>) {
        let since = jiff::Timestamp::now().to_string();
        if let Death::Failpoint(name) | Death::Disk(name) = &schedule.death {
            self.stop();
            self.serve(Some(name));
        }
        let model = RefCell::new(Model::default());
        let mut fate = Fate::default();
        let pid = self.serving.as_ref().map(Serving::pid);
        let (answers, losses, stopped) = (Cell::new(0), Cell::new(0), Cell::new(false));
        let answered = || {
            answers.set(answers.get() + 1);
            if let (Death::Answers { count, victim }, Some(pid)) = (&schedule.death, pid)
                && *count == answers.get()
                && victims::kill(pid, *victim)
                && *victim != Victim::Cloud
            {
                losses.set(1);
            }
            if let (Death::Stop { count }, Some(pid)) = (&schedule.death, pid)
                && *count == answers.get()
            {
                victims::stop(pid);
                stopped.set(true);
            }
        };
        let (endpoint, bucket, function) =
            (self.endpoint.clone(), self.bucket.clone(), self.function.clone());
        let shared = Shared {
            endpoint: &endpoint,
            bucket: &bucket,
            function: &function,
            model: &model,
            disk: matches!(schedule.death, Death::Disk(_)),
            answered: &answered,
            disturbed: &|| losses.get() > 0 || stopped.get(),
        };
        let mut clients: Vec<Client<'_>> = schedule
            .clients
            .iter()
            .enumerate()
            .map(|(number, ops)| Client::new(&shared, schedule.seed, number, ops))
            .collect();
        let mut updating = schedule.update.as_ref().map(|update| self.update(update));
        let mut again = schedule.again.as_deref();
        for round in 0.. {
            assert!(round < 9, "it does not come to an end");
            within(join_all(clients.iter_mut().map(Client::work)), "the clients' work").await;
            if let Some(mut up) = updating.take() {
                up.wait().unwrap();
            }
            if round == 0 && schedule.death == Death::Monitor {
                fate.monitor = self.kill_monitor().await;
            }
            // A death may come only with what follows from the clients' work.
            fate.losses = losses.get();
            if stopped.take() {
                // It has been told, and sees through what is under way: nothing is repeated. Told twice, it would not.
                assert!(self.serving.take().is_some_and(|serving| serving.ended().success()));
            } else if !self.at_rest().await {
                fate.deaths += 1;
                self.serving = None;
            } else if clients.iter().all(|client| client.done == client.ops.len()) {
                break;
            }
            if self.serving.is_none() {
                if schedule.update.is_some() {
                    // An `up` that found no cloud has started one.
                    self.project.tandem(&["serve", "--stop"]);
                }
                self.serve(again.take());
            }
            self.settle(&model).await;
        }
        drop(clients);
        self.settle(&model).await;
        if self.armed {
            fate.deaths += usize::from(self.stop());
            self.serve(None);
        }
        let mut connection = endpoint.connect().await.unwrap();
        if schedule.update.is_some() {
            self.finish_update(&mut connection).await;
        }
        self.abort_uploads(&mut connection).await;
        let model = model.take();
        for (key, known) in &model.keys {
            let answer = connection.get(&bucket, key).await.unwrap();
            assert!(
                client::is(&answer, known.holds.as_ref()),
                "{key} does not hold {:?}: {answer:?}",
                known.holds
            );
        }
        let said = self.witness.take();
        let lines = self.control.log(&since).await.unwrap();
        lines.clone_into(&mut shown.borrow_mut());
        let dead = check::events(&model, fate, &self.control, &said, &lines).await;
        let processes = self.control.processes().await.unwrap();
        let letters = usize::try_from(processes["deadLetters"].as_u64().unwrap()).unwrap();
        assert!(dead.contains(&(letters - self.dead_letters)), "{dead:?} more dead letters: {processes:#}");
        self.dead_letters = letters;
        self.blobs +=
            model.keys.values().filter_map(|key| key.holds.as_ref()).map(|held| held.files).sum::<usize>();
        self.only_these_blobs();
    }

    /// Waits until no event is on its way and no run goes on; false if the cloud dies before.
    async fn at_rest(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(processes) = self.control.processes().await else {
                // A process that dies closes its socket a moment before it is dead.
                while self.alive() {
                    assert!(Instant::now() < deadline, "the cloud lives and does not answer");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                return false;
            };
            let runs = processes["runs"].as_array().unwrap();
            let backlog = processes["backlog"].as_object().unwrap();
            if backlog.is_empty() && runs.iter().all(|run| run["state"] == "ended") {
                return self.alive();
            }
            assert!(Instant::now() < deadline, "it does not come to rest: {processes:#}");
            // Nothing tells that there is nothing more to come.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills the monitor of a container; false if there is none and none comes.
    async fn kill_monitor(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if let Some(monitor) = self.cloud.processes().iter().find(|process| process.contains("conmon")) {
                let pid = monitor.split(' ').next().and_then(|pid| pid.parse().ok());
                return victims::kill_process(pid.unwrap());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    /// Finds out what became of the changes that were not answered: they happened, or they did not, and nothing else.
    /// If the cloud dies meanwhile, the next round finds out.
    async fn settle(&self, model: &RefCell<Model>) {
        let Ok(mut connection) = self.endpoint.connect().await else { return };
        let open: Vec<_> = model
            .borrow()
            .keys
            .iter()
            .filter_map(|(key, known)| Some((key.clone(), known.holds.clone(), known.perhaps.clone()?)))
            .collect();
        for (key, old, new) in open {
            let Ok(answer) = connection.get(&self.bucket, &key).await else { return };
            let (is_old, is_new) = (client::is(&answer, old.as_ref()), client::is(&answer, new.as_ref()));
            assert!(is_old || is_new, "{key} holds neither {old:?} nor {new:?}: {answer:?}");
            let mut model = model.borrow_mut();
            match new {
                Some(content) if is_new => {
                    model.written(&key, content, &client::etag(&answer), !is_old);
                }
                None if is_new => model.deleted(&key),
                _ => model.key(&key).perhaps = None,
            }
        }
    }

    /// Deploys another version of the program.
    fn update(&mut self, update: &Update) -> Child {
        self.version += 1;
        self.project.edit("index.js", &program::text(self.version, self.witness.port));
        let mut up = self.project.command();
        up.args(["up", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null());
        up.envs(update.death.iter().map(|point| ("TANDEM_FAILPOINT", point))).spawn().unwrap()
    }

    /// Whatever became of the update: the next one sees it through, and from then on the new version answers.
    async fn finish_update(&self, connection: &mut Connection) {
        self.project.up();
        self.nothing_to_do();
        let answer = connection
            .invoke(&self.function, &[], "{\"name\":\"probe\"}".into())
            .await
            .unwrap()
            .ok()
            .unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["version"], self.version, "another version answered: {answer}");
    }

    async fn abort_uploads(&self, connection: &mut Connection) {
        let path = format!("/{}?uploads=", self.bucket);
        let listed =
            connection.send("s3", Method::GET, &path, &[], Bytes::new()).await.unwrap().ok().unwrap();
        let text = String::from_utf8_lossy(&listed).into_owned();
        for upload in text.split("<Upload>").skip(1) {
            let part = |name: &str| {
                let rest = upload.split_once(&format!("<{name}>")).unwrap().1;
                rest.split_once('<').unwrap().0
            };
            let path = format!("/{}/{}?uploadId={}", self.bucket, part("Key"), part("UploadId"));
            connection.send("s3", Method::DELETE, &path, &[], Bytes::new()).await.unwrap().ok().unwrap();
        }
    }

    /// Every body in a file belongs to an object. What a crash left is removed after the next start.
    fn only_these_blobs(&self) {
        let count = || fs::read_dir(self.cloud.home().join("data/blobs")).unwrap().count();
        let deadline = Instant::now() + PATIENCE;
        while count() != self.blobs {
            assert!(Instant::now() < deadline, "there are {} blobs for {} bodies", count(), self.blobs);
            // Nothing tells that a sweep is over.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn alive(&self) -> bool {
        self.serving.as_ref().is_some_and(Serving::is_running)
    }

    /// Starts the cloud, which dies at this failpoint.
    fn serve(&mut self, failpoint: Option<&str>) {
        self.armed = failpoint.is_some();
        self.serving = Some(match failpoint {
            Some(failpoint) => self.cloud.serve_until(failpoint),
            None => self.cloud.serve(),
        });
    }

    /// Ends it. True if it met its failpoint only now: closing passes some, too.
    fn stop(&mut self) -> bool {
        let Some(serving) = self.serving.take() else { return false };
        let ended = serving.terminate();
        let died = self.armed && ended.signal() == Some(Signal::SIGKILL as i32);
        assert!(died || ended.success(), "{ended}");
        died
    }

    /// The state is as the program says.
    pub(super) fn nothing_to_do(&self) {
        let preview = self.project.tandem(&["preview"]).ok();
        assert!(preview.all().contains("Nothing to do"), "{}", preview.all());
    }

    /// The end of the cloud; that nothing is left is checked as the cloud is dropped.
    pub(super) fn end(mut self) {
        self.nothing_to_do();
        self.project.destroy();
        self.blobs = 0;
        self.only_these_blobs();
        self.stop();
    }
}

async fn within<T>(work: impl Future<Output = T>, what: &str) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}
