//! Maintenance's Alarm call.

use bytes::Bytes;
use mizzen_core::{Alarm, AlarmKind, SetAlarm};
use mizzen_engine::Engine;
use mizzen_proto::etcdserverpb::{self as wire, alarm_request::AlarmAction};
use prost::Message;
use tonic::Status;

use super::{api::Api, frame::decode, framed::Framed, status::status};
use crate::server::{Caller, Right};

/// Alarms are numbered here as on the wire; 0 stands for all or none.
fn kind(number: i32) -> Option<AlarmKind> {
    AlarmKind::from_number(u8::try_from(number).ok()?)
}

fn member(alarm: Alarm) -> wire::AlarmMember {
    wire::AlarmMember {
        member_id: alarm.member,
        alarm: alarm.kind as i32,
    }
}

impl<E: Engine> Api<E> {
    pub async fn alarm(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::AlarmRequest = decode(body)?;
        let asked = kind(request.alarm);
        let alarms = match (request.action(), asked) {
            (AlarmAction::Get, _) => {
                let mut alarms = self.server.alarms(caller).await.map_err(status)?;
                // As etcd's: an unknown kind has no alarms, and 0 means all.
                alarms.retain(|alarm| request.alarm == 0 || Some(alarm.kind) == asked);
                alarms
            }
            (action, Some(kind)) => {
                let raised = self.server.permit_call(caller, Right::Root).await;
                raised.map_err(status)?;
                let set = SetAlarm {
                    alarm: Alarm {
                        kind,
                        member: request.member_id,
                    },
                    active: action == AlarmAction::Activate,
                };
                self.server.set_alarm(caller, set).await.map_err(status)?
            }
            (_, None) => {
                let set = self.server.permit_call(caller, Right::Root).await;
                set.map_err(status)?;
                Vec::new()
            }
        };
        let mut header = self.header();
        header.revision = self.server.revision();
        let reply = wire::AlarmResponse {
            header: Some(header),
            alarms: alarms.into_iter().map(member).collect(),
        };
        Ok(reply.encode_to_vec().into())
    }
}
