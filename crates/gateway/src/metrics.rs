//! What Prometheus reads: the names of the system that we replace, those that the
//! deployment checklist watches, and our own.
//!
//! Every label has few values: routes by pattern, services and commands by catalog.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use authz::{CommandKey, PolicySetVersion};
use handlers::catalog::{Breaker, Condition};

/// Every metric of the gateway.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    http_seconds: HistogramVec,
    http_total: IntCounterVec,
    active: IntGauge,
    waiting: IntGauge,
    operation_seconds: HistogramVec,
    operations: IntCounterVec,
    operation_total: IntCounterVec,
    operation_errors: IntCounterVec,
    denied: IntCounterVec,
    limited: IntCounterVec,
    errors: IntCounterVec,
    decision_seconds: Histogram,
    decisions: IntCounterVec,
    facts: IntCounterVec,
    policy_set: GaugeVec,
    policy_set_rejected: IntCounter,
    policy_errors: IntCounterVec,
    last_known_good: IntGauge,
    shadow: GaugeVec,
    shadow_differences: IntCounterVec,
    feed_connected: IntGauge,
    journal_sequence: IntGauge,
    journal_unshipped: IntGauge,
    journal_failures: IntCounter,
    start_seconds: Gauge,
    service_up: IntGaugeVec,
    service_breaker: IntGaugeVec,
    service_in_flight: IntGaugeVec,
}

/// How facts came to a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FactsSource {
    /// From memory.
    Hit,
    /// Asked for.
    Miss,
    /// Asked for by another request at the same time.
    Joined,
    /// Asked for in vain.
    Error,
}

impl Metrics {
    /// Every metric, with a series for each service, so that a rate is there from the start.
    ///
    /// # Errors
    ///
    /// When two metrics share a name, which is a bug.
    #[expect(clippy::too_many_lines, reason = "one list of every metric")]
    pub(crate) fn new(services: &[&str]) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            registry: Registry::new(),
            http_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "mcp_gateway_http_request_duration_seconds",
                    "How long HTTP requests took.",
                )
                .buckets(vec![
                    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 30.0,
                ]),
                &["method", "route", "status"],
            )?,
            http_total: counters(
                "mcp_gateway_http_requests_total",
                "HTTP requests answered.",
                &["method", "route", "status"],
            )?,
            active: IntGauge::new("mcp_active_requests", "HTTP requests under way.")?,
            waiting: IntGauge::new(
                "cedargate_waiting_requests",
                "Requests that are kept waiting until people decide.",
            )?,
            operation_seconds: HistogramVec::new(
                HistogramOpts::new("mcp_operation_duration_seconds", "How long services took.")
                    .buckets(vec![0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]),
                &["service", "operation", "status"],
            )?,
            operations: counters(
                "mcp_operations_total",
                "Commands carried out, by how they ended.",
                &["service", "operation", "status"],
            )?,
            operation_total: counters(
                "mcp_operation_total",
                "Commands carried out.",
                &["service"],
            )?,
            operation_errors: counters(
                "mcp_operation_errors",
                "Commands that a service did not carry out.",
                &["service"],
            )?,
            denied: counters(
                "mcp_permission_denied_total",
                "Commands that policy refused.",
                &["service", "outcome"],
            )?,
            limited: counters(
                "mcp_rate_limit_hits_total",
                "Requests that a limit refused, by service (empty for what is no command), by what the limit is of, and by why.",
                &["service", "limit", "reason"],
            )?,
            errors: counters(
                "mcp_errors_total",
                "Errors answered, by kind and JSON-RPC code.",
                &["type", "code"],
            )?,
            decision_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "cedargate_decision_duration_seconds",
                    "How long decisions took, without fetching facts.",
                )
                .buckets(vec![
                    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025,
                ]),
            )?,
            decisions: counters(
                "cedargate_decisions_total",
                "Decisions, by outcome.",
                &["decision"],
            )?,
            facts: counters(
                "cedargate_facts_total",
                "Facts used, by where they came from.",
                &["source"],
            )?,
            policy_set: GaugeVec::new(
                Opts::new(
                    "cedargate_policy_set_info",
                    "The policy set in force; its value is how many policies it holds.",
                ),
                &["version"],
            )?,
            policy_set_rejected: IntCounter::new(
                "cedargate_policy_set_rejected_total",
                "Policy sets that could not be loaded.",
            )?,
            policy_errors: counters(
                "cedargate_policy_errors_total",
                "Policies that could not be evaluated.",
                &["policy"],
            )?,
            last_known_good: IntGauge::new(
                "cedargate_policy_set_last_known_good",
                "1 while the policy set in force is from this gateway's disk, and the orchestrator has not confirmed it.",
            )?,
            shadow: GaugeVec::new(
                Opts::new(
                    "cedargate_shadow_policy_set_info",
                    "The policy set that is evaluated and not enforced; its value is how many policies it holds.",
                ),
                &["version"],
            )?,
            shadow_differences: counters(
                "cedargate_shadow_differences_total",
                "Decisions that the shadow policy set would have made otherwise: from what was enforced to what it says.",
                &["from", "to"],
            )?,
            feed_connected: IntGauge::new(
                "cedargate_feed_connected",
                "1 while changes arrive from the orchestrator.",
            )?,
            journal_sequence: IntGauge::new(
                "cedargate_journal_sequence",
                "The last line of the journal that is on the disk.",
            )?,
            journal_unshipped: IntGauge::new(
                "cedargate_journal_unshipped_lines",
                "Lines that the orchestrator does not have yet.",
            )?,
            journal_failures: IntCounter::new(
                "cedargate_journal_failures_total",
                "Attempts to write the journal that failed.",
            )?,
            start_seconds: Gauge::new(
                "cedargate_start_time_seconds",
                "When this gateway started, in seconds since 1970.",
            )?,
            service_up: gauges(
                "cedargate_service_up",
                "1 while commands have a good chance at a service: it is configured, and not left alone.",
            )?,
            service_breaker: gauges(
                "cedargate_service_breaker",
                "The circuit breaker of a service: 0 closed, 1 half open, 2 open.",
            )?,
            service_in_flight: gauges(
                "cedargate_service_in_flight",
                "Requests under way to a service.",
            )?,
        };
        let all: [Box<dyn prometheus::core::Collector>; 29] = [
            Box::new(metrics.http_seconds.clone()),
            Box::new(metrics.http_total.clone()),
            Box::new(metrics.active.clone()),
            Box::new(metrics.waiting.clone()),
            Box::new(metrics.operation_seconds.clone()),
            Box::new(metrics.operations.clone()),
            Box::new(metrics.operation_total.clone()),
            Box::new(metrics.operation_errors.clone()),
            Box::new(metrics.denied.clone()),
            Box::new(metrics.limited.clone()),
            Box::new(metrics.service_up.clone()),
            Box::new(metrics.service_breaker.clone()),
            Box::new(metrics.service_in_flight.clone()),
            Box::new(metrics.errors.clone()),
            Box::new(metrics.decision_seconds.clone()),
            Box::new(metrics.decisions.clone()),
            Box::new(metrics.facts.clone()),
            Box::new(metrics.policy_set.clone()),
            Box::new(metrics.policy_set_rejected.clone()),
            Box::new(metrics.policy_errors.clone()),
            Box::new(metrics.last_known_good.clone()),
            Box::new(metrics.shadow.clone()),
            Box::new(metrics.shadow_differences.clone()),
            Box::new(metrics.feed_connected.clone()),
            Box::new(metrics.journal_sequence.clone()),
            Box::new(metrics.journal_unshipped.clone()),
            Box::new(metrics.journal_failures.clone()),
            Box::new(metrics.start_seconds.clone()),
            Box::new(prometheus::process_collector::ProcessCollector::for_self()),
        ];
        for collector in all {
            metrics.registry.register(collector)?;
        }
        for service in services {
            metrics.operation_total.with_label_values(&[service]);
            metrics.operation_errors.with_label_values(&[service]);
            for outcome in ["refused", "pending", "rejected"] {
                metrics.denied.with_label_values(&[*service, outcome]);
            }
        }
        Ok(metrics)
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// The gateway started.
    pub(crate) fn started(&self, now: authz::Timestamp) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds until the year 9999 fit a double exactly"
        )]
        self.start_seconds.set(now.as_millis() as f64 / 1_000.0);
    }

    /// A request begins; it ends when the guard is dropped.
    pub(crate) fn request(&self) -> impl Drop + Send + use<> {
        Active::new(&self.active)
    }

    /// A request is kept waiting, until the guard is dropped.
    pub(crate) fn waits(&self) -> Active {
        Active::new(&self.waiting)
    }

    /// A request was answered.
    pub(crate) fn answered(
        &self,
        method: &Method,
        route: &str,
        status: StatusCode,
        took: Duration,
    ) {
        let method = match *method {
            Method::GET | Method::POST | Method::HEAD => method.as_str(),
            _ => "other",
        };
        let labels = [method, route, status.as_str()];
        self.http_total.with_label_values(&labels).inc();
        self.http_seconds
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
    }

    /// A service carried out a command, or did not.
    pub(crate) fn carried_out(&self, command: &CommandKey, success: bool, took: Duration) {
        let service = command.service.as_str();
        let labels = [
            service,
            command.name.as_str(),
            if success { "success" } else { "error" },
        ];
        self.operations.with_label_values(&labels).inc();
        self.operation_seconds
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
        self.operation_total.with_label_values(&[service]).inc();
        if !success {
            self.operation_errors.with_label_values(&[service]).inc();
        }
    }

    /// A decision was made.
    pub(crate) fn decided(&self, decision: &str, took: Duration) {
        self.decisions.with_label_values(&[decision]).inc();
        self.decision_seconds.observe(took.as_secs_f64());
    }

    /// Policy refused a command: `refused`, `pending` or `rejected`.
    pub(crate) fn denied(&self, command: &CommandKey, outcome: &str) {
        self.denied
            .with_label_values(&[command.service.as_str(), outcome])
            .inc();
    }

    /// A limit refused a request: of which service's, if any, what it is of, and why.
    pub(crate) fn limited(&self, service: &str, limit: &str, reason: &str) {
        self.limited
            .with_label_values(&[service, limit, reason])
            .inc();
    }

    /// How a service is.
    pub(crate) fn service(&self, name: &str, condition: &Condition) {
        let label = [name];
        self.service_up
            .with_label_values(&label)
            .set(condition.is_up().into());
        if let Some(breaker) = condition.breaker {
            let level = match breaker {
                Breaker::Closed => 0,
                Breaker::HalfOpen => 1,
                Breaker::Open => 2,
            };
            self.service_breaker.with_label_values(&label).set(level);
        }
        if let Some(in_flight) = condition.in_flight {
            let in_flight = i64::try_from(in_flight).unwrap_or(i64::MAX);
            self.service_in_flight
                .with_label_values(&label)
                .set(in_flight);
        }
    }

    /// An error was answered.
    pub(crate) fn error(&self, kind: &str, code: i32) {
        self.errors
            .with_label_values(&[kind, &code.to_string()])
            .inc();
    }

    /// A policy could not be evaluated.
    pub(crate) fn policy_error(&self, policy: &str) {
        self.policy_errors.with_label_values(&[policy]).inc();
    }

    /// Facts were needed.
    pub(crate) fn facts(&self, source: FactsSource) {
        let source = match source {
            FactsSource::Hit => "hit",
            FactsSource::Miss => "miss",
            FactsSource::Joined => "joined",
            FactsSource::Error => "error",
        };
        self.facts.with_label_values(&[source]).inc();
    }

    /// Another policy set is in force.
    pub(crate) fn policy_set_loaded(&self, version: &PolicySetVersion, policies: usize) {
        self.policy_set.reset();
        let policies = u32::try_from(policies).unwrap_or(u32::MAX);
        self.policy_set
            .with_label_values(&[version.short()])
            .set(policies.into());
    }

    /// A policy set could not be loaded; the one before stays in force.
    pub(crate) fn policy_set_rejected(&self) {
        self.policy_set_rejected.inc();
    }

    /// Whether the policy set in force is from this gateway's disk, unconfirmed.
    pub(crate) fn last_known_good(&self, so: bool) {
        self.last_known_good.set(so.into());
    }

    /// Another policy set is evaluated and not enforced, or none.
    pub(crate) fn shadow_loaded(&self, shadow: Option<(&PolicySetVersion, usize)>) {
        self.shadow.reset();
        if let Some((version, policies)) = shadow {
            let policies = u32::try_from(policies).unwrap_or(u32::MAX);
            self.shadow
                .with_label_values(&[version.short()])
                .set(policies.into());
        }
    }

    /// The shadow would have decided otherwise.
    pub(crate) fn shadow_differs(&self, from: &str, to: &str) {
        self.shadow_differences.with_label_values(&[from, to]).inc();
    }

    /// The feed came, or went.
    pub(crate) fn feed_connected(&self, connected: bool) {
        self.feed_connected.set(connected.into());
    }

    /// The journal is on the disk up to here.
    pub(crate) fn journal_written(&self, sequence: i64) {
        self.journal_sequence.set(sequence);
    }

    /// So many lines are still to be sent.
    pub(crate) fn journal_unshipped(&self, lines: i64) {
        self.journal_unshipped.set(lines);
    }

    /// The journal could not be written.
    pub(crate) fn journal_failed(&self) {
        self.journal_failures.inc();
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn gauges(name: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name, help), &["service"])
}

/// One more, while it lives.
#[derive(Debug)]
pub(crate) struct Active(IntGauge);

impl Active {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checklists_names_are_there_from_the_start() {
        let metrics = Metrics::new(&["coolify"]).unwrap();
        let command: CommandKey = "coolify/list-servers".parse().unwrap();
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        for series in [
            "mcp_operation_total{service=\"coolify\"} 0",
            "mcp_operation_errors{service=\"coolify\"} 0",
            "mcp_permission_denied_total{outcome=\"pending\",service=\"coolify\"} 0",
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
        metrics.carried_out(&command, true, Duration::from_millis(20));
        metrics.carried_out(&command, false, Duration::from_millis(20));
        metrics.denied(&command, "pending");
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        for series in [
            "mcp_operation_total{service=\"coolify\"} 2",
            "mcp_operation_errors{service=\"coolify\"} 1",
            "mcp_permission_denied_total{outcome=\"pending\",service=\"coolify\"} 1",
            "mcp_operations_total{operation=\"list-servers\",service=\"coolify\",status=\"error\"} 1",
            "process_resident_memory_bytes",
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
    }

    #[test]
    fn a_request_that_is_dropped_is_no_longer_under_way() {
        let metrics = Metrics::new(&[]).unwrap();
        let guard = metrics.request();
        assert_eq!(metrics.active.get(), 1);
        drop(guard);
        assert_eq!(metrics.active.get(), 0);
    }
}
