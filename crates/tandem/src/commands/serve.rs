//! `tandem serve`: the cloud itself.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use tandem_cloud::{
    Cloud,
    function::spawner::{self, Spawner},
    home::Home,
};
use tandem_model::Explain;
use tandem_server::listen;
use tokio::sync::watch;

use crate::{background, exit::Failure, interrupt::Interruptions, place::Place, ui::Terminal};

/// Runs the cloud in the foreground until Ctrl-C, SIGTERM or SIGHUP. `tandem up` starts one in the background by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Start it in the background and return when it is ready
    #[arg(long, conflicts_with = "stop")]
    detach: bool,
    /// Stop the cloud that runs; containers go on, and are found again at the next start
    #[arg(long)]
    stop: bool,
    /// How `--detach` starts the real one: readiness is told on standard output
    #[arg(long, hide = true)]
    pub(crate) background: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("a cloud is already running for `{}`{}", home.display(), owner.as_deref().map(|o| format!(" (process {o})")).unwrap_or_default())]
    AlreadyRunning { home: PathBuf, owner: Option<String> },
    #[error("the cloud cannot be run by this user: it must be root, to make namespaces and mounts")]
    NotRoot,
    #[error("cannot use `{}`", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot prepare to start workers")]
    Spawner { source: io::Error },
    #[error("the control socket failed")]
    Control { source: io::Error },
}

impl Explain for ServeError {
    fn code(&self) -> &'static str {
        match self {
            Self::AlreadyRunning { .. } => "E0312",
            Self::NotRoot => "E0313",
            Self::Folder { .. } => "E0314",
            Self::Spawner { .. } => "E0315",
            Self::Control { .. } => "E0316",
        }
    }
    fn help(&self) -> String {
        match self {
            Self::AlreadyRunning { .. } => {
                "use it, stop it with `tandem serve --stop`, or choose another TANDEM_HOME".into()
            }
            Self::NotRoot => "run it with sudo; running without root is not there yet".into(),
            Self::Folder { .. } => "check space and permissions there".into(),
            Self::Spawner { .. } => "see how many processes and open files are allowed (`ulimit -a`)".into(),
            Self::Control { .. } => "see that TANDEM_HOME is on a local disk and its path is short".into(),
        }
    }
}

pub(crate) fn run(terminal: &Terminal, place: &Place, args: &Args) -> Result<(), Failure> {
    if args.stop {
        let was = if background::stop(place)? { "The cloud is stopped." } else { "No cloud is running." };
        terminal.note(was);
        return Ok(());
    }
    if args.detach {
        let started = background::start(place)?;
        if terminal.json() {
            return Ok(terminal.record(&started)?);
        }
        terminal.say(&format!("the cloud is ready at {}", started.endpoint));
        return Ok(());
    }
    let result = foreground(terminal, &place.home, args.background);
    if let (true, Err(Failure::Reported(report))) = (args.background, &result) {
        background::tell_failed(report);
    }
    result
}

/// Single-threaded until the spawner exists: it is a fork of this process, and must hold neither threads nor secrets.
fn foreground(terminal: &Terminal, home: &Home, background: bool) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(ServeError::NotRoot.into());
    }
    if background {
        background::detach();
    }
    let _lock = lock(home)?;
    let spawner = spawner::start().map_err(|source| ServeError::Spawner { source })?;
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("TANDEM_LOG")
                // s3s calls each refused request an error of its own; what is one, the bucket says.
                .unwrap_or_else(|_| "warn,tandem=info,s3s=off".into()),
        )
        .with_writer(io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| ServeError::Spawner { source })?;
    let result = runtime.block_on(serve(terminal, home, spawner, background));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// One cloud a folder: the lock lives as long as the file is open, so a killed cloud leaves none.
pub(super) fn lock(home: &Home) -> Result<Flock<File>, ServeError> {
    let path = home.lock();
    let folder = |source| ServeError::Folder { path: home.path().to_owned(), source };
    // Nobody else may read what programs keep.
    DirBuilder::new().recursive(true).mode(0o700).create(home.path()).map_err(folder)?;
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(folder)?;
    let mut lock =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| ServeError::AlreadyRunning {
            home: home.path().to_owned(),
            owner: fs::read_to_string(&path).ok().map(|o| o.trim().to_owned()).filter(|o| !o.is_empty()),
        })?;
    lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(folder)?;
    Ok(lock)
}

async fn serve(terminal: &Terminal, home: &Home, spawner: Spawner, background: bool) -> Result<(), Failure> {
    let control = listen::bind(&home.control_socket()).map_err(|source| ServeError::Control { source })?;
    let cloud = Cloud::open(home.clone(), Some(spawner)).await?;
    let stop = watch::Sender::new(false);
    let mut interruptions = Interruptions::listen()?;
    let control = tokio::spawn(listen::serve(control, cloud.clone(), stop.clone()));
    if background {
        background::tell_ready();
    } else {
        terminal.say(&format!("the cloud is ready at {}; Ctrl-C stops it", cloud.endpoint.url()));
    }
    let mut stopping = stop.subscribe();
    tokio::select! {
        _ = interruptions.next() => {
            terminal.say("Stopping when what functions are at work on is done, at most some seconds; containers go on. \
                          Ctrl-C again stops at once.");
        }
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    stop.send_replace(true);
    let closing = async {
        cloud.close().await;
        // A stream that is followed for ever must not hold up the end.
        let _ = tokio::time::timeout(Duration::from_secs(1), control).await;
    };
    let result = tokio::select! {
        () = closing => Ok(()),
        interruption = interruptions.next() => Err(Failure::Code(interruption.exit_code())),
    };
    let _ = fs::remove_file(home.control_socket());
    result
}
