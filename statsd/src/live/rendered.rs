//! A report and its pages. Each form is made when it is first asked for and kept: a thousand viewers cost what one does.

use crate::render;
use crate::report::Report;
use common::net::web::Bytes;
use common::openmetrics::Exposition;
use common::time::UnixMs;
use std::sync::{Mutex, OnceLock, PoisonError};

/// A page that shows ages is made anew after so long, in milliseconds, where the report stays: the store is away.
const AGES_MS: u64 = 1_000;

/// A report and the pages made of it so far.
#[derive(Debug)]
pub(crate) struct Rendered {
    report: Report,
    html: Mutex<Option<(UnixMs, Bytes)>>,
    json: OnceLock<Result<Bytes, String>>,
    csv: OnceLock<Bytes>,
    metrics: [OnceLock<Bytes>; 2],
}

impl Rendered {
    /// A report that nobody has asked for yet.
    pub(crate) fn new(report: Report) -> Self {
        Self {
            report,
            html: Mutex::default(),
            json: OnceLock::new(),
            csv: OnceLock::new(),
            metrics: Default::default(),
        }
    }

    /// What is shown.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// The page for people, with ages as of `now` or a moment before.
    pub(crate) fn html(&self, now: UnixMs) -> Bytes {
        let mut held = self.html.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some((at, page)) if now.saturating_sub(*at) < AGES_MS => page.clone(),
            _ => held
                .insert((now, render::html::page(&self.report, now).into()))
                .1
                .clone(),
        }
    }

    /// The report as JSON.
    ///
    /// # Errors
    /// Why it has no such form.
    pub(crate) fn json(&self) -> Result<Bytes, String> {
        let make = || {
            render::json::page(&self.report)
                .map(Bytes::from)
                .map_err(|error| error.to_string())
        };
        self.json.get_or_init(make).clone()
    }

    /// The report as CSV.
    pub(crate) fn csv(&self) -> Bytes {
        self.csv
            .get_or_init(|| render::csv::page(&self.report).into())
            .clone()
    }

    /// The report as metrics in this form.
    pub(crate) fn metrics(&self, form: Exposition) -> Bytes {
        let make =
            || (form.render(&render::openmetrics::families(&self.report)) + form.end()).into();
        self.metrics[form as usize].get_or_init(make).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn a_page_is_made_once_and_its_ages_go_on_where_the_report_stays() {
        let shown = Rendered::new(example());
        let at = shown.report().at;
        let first = shown.html(at);
        assert_eq!(shown.html(at + AGES_MS - 1).as_ptr(), first.as_ptr());
        assert_ne!(shown.html(at + 60 * AGES_MS), first);
        assert_eq!(
            shown.json().expect("JSON").as_ptr(),
            shown.json().expect("JSON").as_ptr()
        );
        assert_eq!(shown.csv().as_ptr(), shown.csv().as_ptr());
        let metrics = |form| shown.metrics(form);
        for form in [Exposition::Text, Exposition::OpenMetrics] {
            assert_eq!(metrics(form).as_ptr(), metrics(form).as_ptr());
        }
        assert_ne!(metrics(Exposition::Text), metrics(Exposition::OpenMetrics));
    }
}
