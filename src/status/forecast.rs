//! The forecast as JSON, for the command and the HTTP port.

use serde_json::{Value, json};

use super::API_VERSION;
use crate::reconcile::forecast::{Bulk, Forecast};

pub fn json(forecast: &Forecast) -> Value {
    let Forecast { from, to, bulks, saved, holiday } = forecast;
    let bulk = |bulk: &Bulk| {
        json!({
            "at": bulk.at, "stops": bulk.stops, "starts": bulk.starts, "because": bulk.because, "endsAt": bulk.ends,
        })
    };
    let hours = forecast.hours();
    let hours = hours.iter().map(|(at, (stops, starts))| json!({"at": at, "stops": stops, "starts": starts}));
    let conflicts =
        forecast.conflicts().map(|(bulk, next)| json!({"at": bulk.at, "endsAt": bulk.ends, "next": next.at}));
    let holiday = holiday.as_ref().map(|holiday| {
        json!({
            "from": holiday.from, "to": holiday.to, "summary": &*holiday.summary, "calendar": &*holiday.calendar,
        })
    });
    json!({
        "apiVersion": API_VERSION, "kind": "Forecast", "from": from, "to": to,
        "hours": hours.collect::<Vec<_>>(), "bulks": bulks.iter().map(bulk).collect::<Vec<_>>(),
        "conflicts": conflicts.collect::<Vec<_>>(),
        "saved": {"hours": saved.hours, "mbHours": saved.mb_hours, "appsOfUnknownMemory": saved.unknown_memory},
        "nextHoliday": holiday,
    })
}
