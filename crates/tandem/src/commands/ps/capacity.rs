//! `tandem ps --capacity`: what the machine has, who holds it, who waits, and what would fit.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tandem_cloud::capacity::{CapacityStatus, DeviceUse, Fit, Holder, Room, Waiter};
use tandem_model::Urn;

use super::{ID, age};
use crate::ui;

/// Tables for a terminal of that width; or for a pipe, with ids whole.
pub(super) fn shown(status: &CapacityStatus, now: Timestamp, width: Option<usize>) -> String {
    let CapacityStatus { total, held, free, .. } = status;
    let row = |name: &str, of: &dyn Fn(&Room) -> String| [name.to_owned(), of(total), of(held), of(free)];
    let all = [row("memory", &|room| room.memory.to_string()), row("cores", &|room| cores(room))];
    let mut parts = vec![ui::table(["CAPACITY", "TOTAL", "HELD", "FREE"], all.into_iter(), width)];
    if !status.holders.is_empty() {
        let heads = ["HELD BY", "STACK", "CONTAINERS", "MEMORY", "CORES"];
        parts.push(ui::table(heads, status.holders.iter().map(holder), width));
    }
    if !status.devices.is_empty() {
        let heads = ["DEVICE", "USED BY", "WAITED FOR BY"];
        parts.push(ui::table(heads, status.devices.iter().map(device), width));
    }
    if !status.waiting.is_empty() {
        let heads = ["WAITING", "FOR", "AGE", "PRIORITY", "MEMORY", "CORES", "WHY"];
        let rows = status.waiting.iter().map(|waiter| waiting(waiter, now, width.is_some()));
        parts.push(ui::table(heads, rows, width));
    }
    if !status.fits.is_empty() {
        let heads = ["WOULD FIT", "NOW", "AT MOST", "MEMORY", "CORES"];
        parts.push(ui::table(heads, status.fits.iter().map(fit), width));
    }
    parts.join("\n")
}

fn cores(room: &Room) -> String {
    (room.millicores as f64 / 1000.0).to_string()
}

fn holder(Holder { of, count, holds }: &Holder) -> [String; 5] {
    [of.short(), of.stack.to_string(), count.to_string(), holds.memory.to_string(), cores(holds)]
}

fn device(device: &DeviceUse) -> [String; 3] {
    [device.path.clone(), names(&device.used_by), names(&device.waited_for_by)]
}

/// `task/a, 3 × task/b`
fn names(urns: &[Urn]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    urns.iter().for_each(|urn| *counts.entry(urn.short()).or_default() += 1);
    let parts: Vec<_> = counts
        .into_iter()
        .map(|(name, count)| if count == 1 { name } else { format!("{count} × {name}") })
        .collect();
    parts.join(", ")
}

fn waiting(waiter: &Waiter, now: Timestamp, short: bool) -> [String; 7] {
    let id = if short { &waiter.id[waiter.id.len().saturating_sub(ID)..] } else { &waiter.id };
    [
        id.to_owned(),
        waiter.of.short(),
        age(waiter.since, now),
        waiter.priority.to_string(),
        waiter.needs.memory.to_string(),
        cores(&waiter.needs),
        waiter.why.clone(),
    ]
}

fn fit(Fit { of, needs, now, at_most }: &Fit) -> [String; 5] {
    [of.short(), now.to_string(), at_most.to_string(), needs.memory.to_string(), cores(needs)]
}

#[cfg(test)]
mod tests {
    use tandem_model::ByteSize;

    use super::*;

    fn urn(short: &str) -> Urn {
        format!("urn:tandem:shop:dev:{}", short.replace('/', ":")).parse().unwrap()
    }

    fn room(mebibytes: u64, millicores: u64) -> Room {
        Room { memory: ByteSize::mebibytes(mebibytes), millicores }
    }

    #[test]
    fn it_is_told_what_is_free_who_holds_it_who_waits_and_what_would_fit() {
        let status = CapacityStatus {
            total: room(1024, 2000),
            held: room(768, 500),
            free: room(256, 1500),
            holders: vec![
                Holder { of: urn("service/web"), count: 2, holds: room(256, 0) },
                Holder { of: urn("task/render"), count: 1, holds: room(512, 500) },
            ],
            devices: vec![DeviceUse {
                path: "/dev/kvm".into(),
                used_by: vec![urn("task/render")],
                waited_for_by: vec![urn("task/test"), urn("task/test")],
            }],
            waiting: vec![Waiter {
                id: "0123456789abcdef0123".into(),
                of: urn("task/render"),
                since: Timestamp::from_second(240).unwrap(),
                needs: room(512, 500),
                devices: vec![],
                priority: 5,
                why: "needs 512 MiB and 0.5 cores; 256 MiB and 1.5 cores free".into(),
            }],
            fits: vec![Fit { of: urn("task/render"), needs: room(512, 500), now: 0, at_most: 2 }],
        };
        let now = Timestamp::from_second(300).unwrap();
        insta::assert_snapshot!(shown(&status, now, None), @r"
        CAPACITY  TOTAL  HELD     FREE
        memory    1 GiB  768 MiB  256 MiB
        cores     2      0.5      1.5

        HELD BY      STACK     CONTAINERS  MEMORY   CORES
        service/web  shop/dev  2           256 MiB  0
        task/render  shop/dev  1           512 MiB  0.5

        DEVICE    USED BY      WAITED FOR BY
        /dev/kvm  task/render  2 × task/test

        WAITING               FOR          AGE  PRIORITY  MEMORY   CORES  WHY
        0123456789abcdef0123  task/render  60s  5         512 MiB  0.5    needs 512 MiB and 0.5 cores; 256 MiB and 1.5 cores free

        WOULD FIT    NOW  AT MOST  MEMORY   CORES
        task/render  0    2        512 MiB  0.5
        ");
    }
}
