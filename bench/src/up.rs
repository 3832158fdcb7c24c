//! `preview` and `up` with nothing to do.

use anyhow::Result;

use crate::{
    cloud::Cloud,
    floors::Floors,
    stats::repeat,
    table::{Row, Value},
};

const RESOURCES: usize = 1000;

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let cloud = Cloud::start()?;
    let program = format!(
        "const cloud = require(\"@tandem/cloud\");\nfor (let n = 0; n < {RESOURCES}; n++) new cloud.Bucket(`bucket-${{n}}`);\n"
    );
    cloud.write(&program)?;
    let first = repeat(1, || cloud.tandem(&["up", "--yes"]).map(drop))?;
    let ups = repeat(5, || cloud.tandem(&["up", "--yes"]).map(drop))?;
    let previews = repeat(5, || cloud.tandem(&["preview"]).map(drop))?;
    let per_resource = Value::Time(floors.append.median().saturating_mul(u32::try_from(RESOURCES)?));
    Ok(vec![
        Row::new("up: create 1,000 buckets", Value::Time(first.median())).floor(per_resource, "appends"),
        Row::new("up: 1,000 resources, nothing to do", Value::Time(ups.median()))
            .budget(Value::millis(1000.0)),
        Row::new("preview: 1,000 resources, nothing to do", Value::Time(previews.median())),
    ])
}
