//! The two ways to write metrics down: OpenMetrics, and the text format that came before it.

use std::fmt;

use anyhow::Result;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};

use super::{Kind, METRICS, Snapshot};

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for (values, value) in (metric.read)(self) {
                let labels: Vec<_> = metric.labels.iter().copied().zip(values).collect();
                let put = |sample: &mut prometheus_client::encoding::MetricEncoder<'_>| match metric
                    .kind
                {
                    Kind::Counter => sample.encode_counter::<NoLabelSet, _, u64>(&value, None),
                    Kind::Gauge => sample.encode_gauge(&value),
                };
                if labels.is_empty() {
                    put(&mut family)?;
                } else {
                    put(&mut family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

/// OpenMetrics 1.0.
///
/// # Errors
/// None that depends on the snapshot.
pub(super) fn open_metrics(snapshot: Snapshot) -> Result<String> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// The text format, version 0.0.4: a counter is called there as its samples are.
pub(super) fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        let described = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF"), ..) => continue,
            (Some("#"), Some(what), Some(name), Some(rest)) => METRICS
                .iter()
                .find(|metric| metric.name == name)
                .map(|metric| (what, metric.sample_name(), rest)),
            _ => None,
        };
        match described {
            Some((what, name, rest)) => text.push_str(&format!("# {what} {name} {rest}")),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}
