//! Which messages of a queue can be received, and who has which. Pure: it is told the time, and what was committed.
//!
//! Memory holds what is in flight and what came back from there, never all messages: those that nobody has received yet
//! are found in the store, at a cursor. So a receive costs the same however many messages there are.
//!
//! A message is *held* while a commit about it is under way, so that nobody else begins another.
//!
//! - Standard: rows are in the order in which they become due. Behind the cursor every message is in flight, held, or
//!   among those that `returned`.
//! - FIFO: while messages of a group are in flight or held, none of that group is received. `ready` names the groups that
//!   may have one, by when; picking looks whether it is so.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use tandem_store::{Direction, ReadError, Snapshot, after_prefix};

use super::{
    error::QueueError,
    key::{Key, key_of, message_row, table},
    message::Times,
};

/// The most messages in flight. Source: Amazon SQS quotas.
pub(super) const MOST_IN_FLIGHT: usize = 120_000;
/// Above so many that came back, they are looked for in the store instead.
const MOST_RETURNED: usize = 100_000;

/// A message that somebody received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flight {
    /// Until when it is hidden.
    pub(super) until: u64,
    /// What the receipt holds.
    pub(super) secret: u64,
    /// When it was received.
    pub(super) received: u64,
}

#[derive(Debug)]
pub(super) struct Core {
    order: Order,
    flights: HashMap<Key, Flight>,
    /// The flights by their end.
    ends: BTreeSet<(u64, Key)>,
    held: HashSet<Key>,
    messages: i64,
}

#[derive(Debug)]
enum Order {
    Standard { cursor: Bytes, returned: BTreeSet<Key> },
    Fifo { taken: HashMap<Bytes, usize>, ready: Ready },
}

/// Groups that may have a message to receive.
#[derive(Debug, Default)]
struct Ready {
    order: BTreeSet<(u64, u64, Bytes)>,
    places: HashMap<Bytes, (u64, u64)>,
}

impl Ready {
    /// Unless the group has a place already, which is an earlier one.
    fn add(&mut self, group: Bytes, due: u64, number: u64) {
        if !self.places.contains_key(&group) {
            self.places.insert(group.clone(), (due, number));
            self.order.insert((due, number, group));
        }
    }

    fn remove(&mut self, group: &Bytes) {
        if let Some((due, number)) = self.places.remove(group) {
            self.order.remove(&(due, number, group.clone()));
        }
    }
}

/// What a receive may have.
#[derive(Debug, Default)]
pub(super) struct Picked {
    /// Held, with their rows.
    pub(super) messages: Vec<(Key, Bytes)>,
    /// When something may become visible that is not now.
    pub(super) wake: Option<u64>,
}

/// Why a message cannot be held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unheld {
    /// Somebody else holds it just now.
    Busy,
    /// It was received again since.
    Stale,
    /// Nobody has it in flight.
    Landed,
}

/// The messages of a queue, as a snapshot has them.
pub(super) struct Rows<'a> {
    pub(super) snapshot: &'a dyn Snapshot,
    pub(super) queue: &'a str,
}

impl Rows<'_> {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, ReadError> {
        self.snapshot.get(&message_row(self.queue, key))
    }

    /// Those whose key is `from` or greater, and begins with `within`.
    pub(super) fn range(
        &self,
        from: &[u8],
        within: &[u8],
    ) -> Result<impl Iterator<Item = Result<(Key, Bytes), ReadError>>, ReadError> {
        let table = table("message", self.queue);
        let from = [&table, from].concat();
        let to = after_prefix(&[&table, within].concat());
        let entries = self.snapshot.range(&from, &to, Direction::Ascending)?;
        Ok(entries.map(move |entry| entry.map(|(row, value)| (key_of(&row, &table), value))))
    }
}

impl Core {
    pub(super) fn new(fifo: bool) -> Self {
        let order = match fifo {
            true => Order::Fifo { taken: HashMap::new(), ready: Ready::default() },
            false => Order::Standard { cursor: Bytes::new(), returned: BTreeSet::new() },
        };
        let (flights, ends, held) = Default::default();
        Self { order, flights, ends, held, messages: 0 }
    }

    /// A message that was found in the store at the start.
    pub(super) fn found(&mut self, key: &Key, due: u64) {
        self.messages += 1;
        if let Order::Fifo { ready, .. } = &mut self.order {
            ready.add(key.group(), due, key.number());
        }
    }

    /// A message was committed.
    pub(super) fn added(&mut self, key: &Key, due: u64) {
        self.messages += 1;
        if self.held.contains(key) || self.flights.contains_key(key) {
            // A receive saw the commit before its sender heard of it.
            return;
        }
        match &mut self.order {
            Order::Standard { cursor, returned } => {
                if key.0 < *cursor {
                    returned.insert(key.clone());
                }
            }
            Order::Fifo { taken, ready } => {
                let group = key.group();
                if !taken.contains_key(&group) {
                    ready.add(group, due, key.number());
                }
            }
        }
    }

    /// Makes visible what was in flight for too long.
    pub(super) fn expire(&mut self, now: u64) {
        while let Some((until, _)) = self.ends.first()
            && *until <= now
            && let Some((_, key)) = self.ends.pop_first()
        {
            self.flights.remove(&key);
            self.order.returned(key);
        }
    }

    /// Holds at most `most` messages that can be received now.
    ///
    /// # Errors
    /// [`QueueError::OverLimit`] if a standard queue has as many in flight as it may have.
    pub(super) fn pick(&mut self, rows: &Rows<'_>, now: u64, most: usize) -> Result<Picked, QueueError> {
        self.expire(now);
        let mut picked = Picked { wake: self.ends.first().map(|(until, _)| *until), ..Picked::default() };
        let room = MOST_IN_FLIGHT.saturating_sub(self.flights.len() + self.held.len());
        let most = most.min(room);
        let found = match &mut self.order {
            Order::Standard { .. } if room == 0 => Err(QueueError::OverLimit { most: MOST_IN_FLIGHT }),
            Order::Standard { cursor, returned } => {
                let (flights, held) = (&self.flights, &self.held);
                let elsewhere = |key: &Key| flights.contains_key(key) || held.contains(key);
                pick_standard(cursor, returned, rows, now, most, elsewhere, &mut picked)
            }
            Order::Fifo { taken, ready } => pick_fifo(taken, ready, rows, now, most, &mut picked),
        };
        self.held.extend(picked.messages.iter().map(|(key, _)| key.clone()));
        if let Err(error) = found {
            picked.messages.iter().for_each(|(key, _)| self.released(key));
            return Err(error);
        }
        Ok(picked)
    }

    /// A held message is in flight.
    pub(super) fn taken(&mut self, key: &Key, flight: Flight) {
        self.held.remove(key);
        self.ends.insert((flight.until, key.clone()));
        self.flights.insert(key.clone(), flight);
    }

    /// A held message is as it was: in flight, or visible.
    pub(super) fn released(&mut self, key: &Key) {
        self.held.remove(key);
        match self.flights.get(key) {
            Some(flight) => _ = self.ends.insert((flight.until, key.clone())),
            None => self.order.returned(key.clone()),
        }
    }

    /// A held message is visible again.
    pub(super) fn returned(&mut self, key: &Key) {
        self.flights.remove(key);
        self.released(key);
    }

    /// A held message is deleted.
    pub(super) fn gone(&mut self, key: &Key) {
        self.held.remove(key);
        self.flights.remove(key);
        self.messages -= 1;
        self.order.gone(key);
    }

    /// Holds a message in flight, for whoever received it last.
    pub(super) fn hold(&mut self, key: &Key, secret: u64, now: u64) -> Result<Flight, Unheld> {
        self.expire(now);
        if self.held.contains(key) {
            return Err(Unheld::Busy);
        }
        match self.flights.get(key) {
            Some(flight) if flight.secret == secret => {
                let flight = *flight;
                self.ends.remove(&(flight.until, key.clone()));
                self.held.insert(key.clone());
                Ok(flight)
            }
            Some(_) => Err(Unheld::Stale),
            None => Err(Unheld::Landed),
        }
    }

    /// Holds a message of a standard queue that is not in flight. False if it is held already.
    pub(super) fn hold_visible(&mut self, key: &Key) -> bool {
        if let Order::Standard { returned, .. } = &mut self.order {
            returned.remove(key);
        }
        !self.flights.contains_key(key) && self.held.insert(key.clone())
    }

    /// Holds those of the messages that nobody has; of FIFO queues, those of groups of which nobody has any.
    pub(super) fn hold_idle(&mut self, keys: Vec<Key>) -> Vec<Key> {
        match &mut self.order {
            Order::Standard { .. } => keys.into_iter().filter(|key| self.hold_visible(key)).collect(),
            Order::Fifo { taken, ready } => {
                let busy: HashSet<Bytes> =
                    keys.iter().map(Key::group).filter(|group| taken.contains_key(group)).collect();
                let idle: Vec<_> = keys.into_iter().filter(|key| !busy.contains(&key.group())).collect();
                for key in &idle {
                    *taken.entry(key.group()).or_default() += 1;
                    ready.remove(&key.group());
                    self.held.insert(key.clone());
                }
                idle
            }
        }
    }

    /// A message that was in flight when the cloud stopped.
    pub(super) fn flies(&mut self, key: &Key, flight: Flight) {
        if let Order::Fifo { taken, ready } = &mut self.order {
            *taken.entry(key.group()).or_default() += 1;
            ready.remove(&key.group());
        }
        self.taken(key, flight);
    }

    /// Forgets a message that was deleted together with others, whoever has it. Nobody holds one meanwhile.
    pub(super) fn purged(&mut self, key: &Key) {
        if let Some(flight) = self.flights.get(key) {
            self.ends.remove(&(flight.until, key.clone()));
            return self.gone(key);
        }
        if let Order::Standard { returned, .. } = &mut self.order {
            returned.remove(key);
        }
        self.messages -= 1;
    }

    pub(super) fn messages(&self) -> u64 {
        u64::try_from(self.messages).unwrap_or(0)
    }

    /// Those that were received and are not visible again.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }
}

impl Order {
    fn returned(&mut self, key: Key) {
        match self {
            Self::Standard { cursor, returned } => {
                if key.0 < *cursor {
                    returned.insert(key);
                }
                if returned.len() > MOST_RETURNED {
                    returned.clear();
                    *cursor = Bytes::new();
                }
            }
            Self::Fifo { .. } => self.gone(&key),
        }
    }

    /// One less of its group is in flight or held. Of the last, the group is looked at again.
    fn gone(&mut self, key: &Key) {
        let Self::Fifo { taken, ready } = self else { return };
        let group = key.group();
        let Some(count) = taken.get_mut(&group) else { return };
        *count -= 1;
        if *count == 0 {
            taken.remove(&group);
            ready.add(group, 0, key.number());
        }
    }
}

fn pick_standard(
    cursor: &mut Bytes,
    returned: &mut BTreeSet<Key>,
    rows: &Rows<'_>,
    now: u64,
    most: usize,
    elsewhere: impl Fn(&Key) -> bool,
    picked: &mut Picked,
) -> Result<(), QueueError> {
    while picked.messages.len() < most
        && let Some(key) = returned.pop_first()
    {
        match rows.get(&key) {
            Ok(Some(row)) => picked.messages.push((key, row)),
            // Deleted since.
            Ok(None) => {}
            Err(error) => {
                returned.insert(key);
                return Err(error.into());
            }
        }
    }
    if picked.messages.len() == most {
        return Ok(());
    }
    let from = cursor.clone();
    for entry in rows.range(&from, &[])? {
        let (key, row) = entry?;
        if key.due() > now {
            picked.wake = Some(picked.wake.map_or(key.due(), |wake| wake.min(key.due())));
            return Ok(());
        }
        // The first key after this one.
        *cursor = [&*key.0, &[0]].concat().into();
        if elsewhere(&key) || picked.messages.iter().any(|(picked, _)| *picked == key) {
            continue;
        }
        picked.messages.push((key, row));
        if picked.messages.len() == most {
            return Ok(());
        }
    }
    Ok(())
}

fn pick_fifo(
    taken: &mut HashMap<Bytes, usize>,
    ready: &mut Ready,
    rows: &Rows<'_>,
    now: u64,
    most: usize,
    picked: &mut Picked,
) -> Result<(), QueueError> {
    while picked.messages.len() < most
        && let Some((due, number, group)) = ready.order.first().cloned()
    {
        if due > now {
            picked.wake = Some(picked.wake.map_or(due, |wake| wake.min(due)));
            return Ok(());
        }
        ready.remove(&group);
        let before = picked.messages.len();
        let end = [&*group, &[0]].concat();
        let mut more = || -> Result<Option<(u64, u64)>, QueueError> {
            for entry in rows.range(&end, &end)? {
                let (key, row) = entry?;
                let times = Times::of(&row)?;
                if times.due > now {
                    return Ok(Some((times.due, key.number())));
                }
                picked.messages.push((key, row));
                if picked.messages.len() == most {
                    break;
                }
            }
            Ok(None)
        };
        let later = more();
        let count = picked.messages.len() - before;
        match later {
            Err(error) => {
                picked.messages.truncate(before);
                ready.add(group, due, number);
                return Err(error);
            }
            Ok(_) if count > 0 => _ = taken.insert(group, count),
            Ok(Some((due, number))) => ready.add(group, due, number),
            // There is none any more.
            Ok(None) => {}
        }
    }
    Ok(())
}
