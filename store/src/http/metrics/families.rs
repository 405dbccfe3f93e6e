//! Series in Prometheus' text format: names, labels, values.

use mizzen_counters::Distribution;
use prometheus::{
    Encoder as _, TEXT_FORMAT, TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

/// The media type of [`Families::encode`].
pub const FORMAT: &str = TEXT_FORMAT;

/// Names and values of a series' labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// All families of one scrape.
#[derive(Default)]
pub struct Families(Vec<MetricFamily>);

fn labelled(labels: Labels<'_>) -> Metric {
    let mut pairs: Vec<LabelPair> = labels
        .iter()
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        })
        .collect();
    pairs.sort_by(|a, b| a.name().cmp(b.name()));
    Metric::from_label(pairs)
}

/// The series of one family, as they are added.
pub struct Family<'a>(&'a mut MetricFamily);

impl Family<'_> {
    pub fn add(&mut self, labels: Labels<'_>, value: f64) -> &mut Self {
        let mut metric = labelled(labels);
        if self.0.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0.mut_metric().push(metric);
        self
    }

    pub fn observed(&mut self, labels: Labels<'_>, times: &Distribution) -> &mut Self {
        let mut histogram = Histogram::default();
        let buckets = times.buckets.iter().map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*count);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(times.count);
        histogram.set_sample_sum(times.sum);
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.0.mut_metric().push(metric);
        self
    }
}

impl Families {
    fn family(&mut self, kind: MetricType, name: &str, help: &str) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.0.push(family);
        // It has just been put there.
        let last = self.0.len() - 1;
        Family(&mut self.0[last])
    }

    pub fn counters(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(MetricType::COUNTER, name, help)
    }

    pub fn gauges(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(MetricType::GAUGE, name, help)
    }

    pub fn histograms(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(MetricType::HISTOGRAM, name, help)
    }

    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help).add(&[], value as f64);
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help).add(&[], value);
    }

    /// Families by name; one without series is left out, as it is by Go's client.
    pub fn encode(mut self) -> Result<String, prometheus::Error> {
        self.0.retain(|family| !family.get_metric().is_empty());
        self.0.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0, &mut text)?;
        // Whatever is not UTF-8 would have been refused by the encoder.
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_by_name_with_every_kind_of_series() {
        let mut families = Families::default();
        let mut times = Distribution {
            buckets: vec![(0.001, 2), (0.002, 3)],
            count: 4,
            sum: 1.5,
        };
        families
            .histograms("b_seconds", "Times.")
            .observed(&[("To", "a\"b")], &times);
        families.counter("a_total", "Things.", 7);
        families.gauges("empty", "Nothing.");
        families.gauge("c_bytes", "Size.", 1.0e10);
        times.add(&times.clone());
        assert_eq!(times.count, 8);
        let text = families.encode().expect("written");
        let expected = "# HELP a_total Things.\n# TYPE a_total counter\na_total 7\n\
            # HELP b_seconds Times.\n# TYPE b_seconds histogram\n\
            b_seconds_bucket{To=\"a\\\"b\",le=\"0.001\"} 2\n\
            b_seconds_bucket{To=\"a\\\"b\",le=\"0.002\"} 3\n\
            b_seconds_bucket{To=\"a\\\"b\",le=\"+Inf\"} 4\n\
            b_seconds_sum{To=\"a\\\"b\"} 1.5\nb_seconds_count{To=\"a\\\"b\"} 4\n\
            # HELP c_bytes Size.\n# TYPE c_bytes gauge\nc_bytes 10000000000\n";
        assert_eq!(text, expected);
    }
}
