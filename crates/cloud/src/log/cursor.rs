//! Positions in all the logs that a reader asked for, and their lines merged by time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet, VecDeque},
    io,
    ops::ControlFlow,
    path::PathBuf,
};

use jiff::Timestamp;
use tandem_model::Urn;

use super::{
    Filter, Line, Log, LogError, RunLog,
    line_file::Reach,
    position::{Begin, SLACK},
    run_file::RunFile,
    segment::{self, Segments},
};

/// A position in one log, with the line that stands there.
#[derive(Debug)]
struct Cursor {
    source: Source,
    head: Option<Line>,
    /// Whether there may be more lines than when it was last read to its end.
    touched: bool,
}

#[derive(Debug)]
enum Source {
    Resource(Urn, Segments),
    Run(RunFile),
}

impl Source {
    fn next(&mut self) -> io::Result<Option<Line>> {
        match self {
            Self::Resource(_, segments) => segments.next(),
            Self::Run(file) => file.next(),
        }
    }
}

impl Cursor {
    fn new(source: Source) -> Self {
        Self { source, head: None, touched: true }
    }

    /// Moves to the next line that the filter asks for, if there is none yet.
    fn load(&mut self, filter: &Filter) -> io::Result<Option<Timestamp>> {
        while self.head.is_none() {
            let Some(line) = self.source.next()? else { return Ok(None) };
            // What comes after is younger still, as far as order can be relied upon.
            if filter.until.is_some_and(|until| line.time.duration_since(until) > SLACK) {
                return Ok(None);
            }
            if filter.wants_id(&line.id) && filter.wants_time(line.time) {
                self.head = Some(line);
            }
        }
        Ok(self.head.as_ref().map(|line| line.time))
    }

    /// A run's file is opened only when the merge has come to the run: thousands may have ended long ago.
    fn unread_since(&self) -> Option<Timestamp> {
        match &self.source {
            Source::Run(file) if file.is_unread() => Some(file.run.since),
            _ => None,
        }
    }

    /// What to show when its file cannot be read.
    fn path(&self, root: &std::path::Path) -> PathBuf {
        match &self.source {
            Source::Resource(urn, _) => segment::folder(root, urn),
            Source::Run(file) => file.run.file.clone(),
        }
    }
}

/// The positions of one reader.
#[derive(Debug)]
pub(super) struct Cursors {
    root: PathBuf,
    filter: Filter,
    reach: Reach,
    cursors: Vec<Cursor>,
    /// The runs that were read to their end; told of once more, they must not be read again.
    finished: HashSet<PathBuf>,
}

impl Log {
    /// At the start of every log that the filter asks for.
    pub(super) fn cursors(&self, filter: &Filter, reach: Reach) -> Result<Cursors, LogError> {
        let root = self.shared.root.clone();
        let mut cursors = Cursors {
            root: root.clone(),
            filter: filter.clone(),
            reach,
            cursors: Vec::new(),
            finished: HashSet::new(),
        };
        let resources = segment::resources(&root, |urn| filter.wants(urn))
            .map_err(|source| LogError::Io { path: root, source })?;
        for resource in &resources {
            cursors.add_resource(resource)?;
        }
        if let Some(runs) = self.runs() {
            runs.run_logs(filter)?.into_iter().for_each(|run| cursors.upsert_run(run));
        }
        Ok(cursors)
    }
}

impl Cursors {
    fn add_resource(&mut self, resource: &Urn) -> Result<(), LogError> {
        let folder = segment::folder(&self.root, resource);
        let segments = Segments::new(folder.clone(), self.reach, Begin::of(&self.filter))
            .map_err(|source| LogError::Io { path: folder, source })?;
        self.cursors.push(Cursor::new(Source::Resource(resource.clone(), segments)));
        Ok(())
    }

    /// There may be new lines of a resource, perhaps its first.
    pub(super) fn touch_resource(&mut self, resource: &Urn) -> Result<(), LogError> {
        let is_it = |c: &&mut Cursor| matches!(&c.source, Source::Resource(urn, _) if urn == resource);
        match self.cursors.iter_mut().find(is_it) {
            Some(cursor) => cursor.touched = true,
            None if self.filter.wants(resource) => self.add_resource(resource)?,
            None => {}
        }
        Ok(())
    }

    /// A run has begun or ended.
    pub(super) fn upsert_run(&mut self, run: RunLog) {
        let known = self.cursors.iter_mut().find_map(|c| match &mut c.source {
            Source::Run(file) if file.run.file == run.file => Some((&mut c.touched, &mut file.run)),
            _ => None,
        });
        if let Some((touched, known)) = known {
            known.ended = run.ended;
            *touched = true;
        } else if self.filter.wants(&run.task)
            && self.filter.wants_id(&run.id)
            && self.filter.until.is_none_or(|until| run.since <= until)
            && !self.finished.contains(&run.file)
        {
            let begin = Begin::of(&self.filter);
            self.cursors.push(Cursor::new(Source::Run(RunFile::new(run, self.reach, begin))));
        }
    }

    /// There may be new lines of these files.
    pub(super) fn touch_files(&mut self, changed: impl Fn(&RunLog) -> bool) {
        for cursor in &mut self.cursors {
            if let Source::Run(file) = &cursor.source
                && changed(&file.run)
            {
                cursor.touched = true;
            }
        }
    }

    /// The runs that are read, with those that have ended.
    pub(super) fn runs(&self) -> impl Iterator<Item = &RunLog> {
        self.cursors.iter().filter_map(|cursor| match &cursor.source {
            Source::Run(file) => Some(&file.run),
            Source::Resource(..) => None,
        })
    }

    /// Takes over what another look has found.
    pub(super) fn adopt(&mut self, found: Self) -> Result<(), LogError> {
        for cursor in found.cursors {
            match cursor.source {
                Source::Resource(urn, _) => self.touch_resource(&urn)?,
                Source::Run(file) => self.upsert_run(file.run),
            }
        }
        self.cursors.iter_mut().for_each(|cursor| cursor.touched = true);
        Ok(())
    }

    /// Forgets the runs that have ended and are read to their end.
    pub(super) fn drop_ended_runs(&mut self) {
        let Self { cursors, finished, .. } = self;
        cursors.retain(|cursor| match &cursor.source {
            Source::Run(file) if file.run.ended.is_some() && !cursor.touched => {
                finished.insert(file.run.file.clone());
                false
            }
            _ => true,
        });
    }

    /// Gives the lines of everything that was touched, in the order of their times, until there are no more for now or
    /// `give` breaks. Lines of one log stay in the order in which they were written.
    pub(super) fn merge(&mut self, mut give: impl FnMut(Line) -> ControlFlow<()>) -> Result<(), LogError> {
        let Self { root, filter, cursors, .. } = self;
        let load = |cursor: &mut Cursor| {
            let loaded = cursor.load(filter);
            cursor.touched = !matches!(loaded, Ok(None));
            loaded.map_err(|source| LogError::Io { path: cursor.path(root), source })
        };
        let mut heads = BinaryHeap::new();
        for (i, cursor) in cursors.iter_mut().enumerate().filter(|(_, cursor)| cursor.touched) {
            let time = match cursor.unread_since() {
                Some(since) => Some(since),
                None => load(cursor)?,
            };
            heads.extend(time.map(|time| Reverse((time, i))));
        }
        while let Some(Reverse((time, i))) = heads.pop() {
            let cursor = &mut cursors[i];
            match load(cursor)? {
                // It was not open yet, and its first line is not the next one.
                Some(actual) if actual > time => heads.push(Reverse((actual, i))),
                Some(_) => {
                    if let Some(line) = cursor.head.take()
                        && give(line).is_break()
                    {
                        return Ok(());
                    }
                    heads.extend(load(cursor)?.map(|time| Reverse((time, i))));
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// Lines that are collected, at most the last so many.
#[derive(Debug)]
pub(super) struct Past {
    lines: VecDeque<Line>,
    tail: Option<usize>,
}

impl Past {
    pub(super) fn new(tail: Option<usize>) -> Self {
        Self { lines: VecDeque::new(), tail }
    }

    pub(super) fn push(&mut self, line: Line) {
        self.lines.push_back(line);
        if self.tail.is_some_and(|tail| self.lines.len() > tail) {
            self.lines.pop_front();
        }
    }

    pub(super) fn into_lines(self) -> Vec<Line> {
        self.lines.into()
    }
}
