//! `:authority` as gRPC's clients send it: grpc-go takes any.

use super::*;

fn asked(authority: Option<&[u8]>, host: Option<&[u8]>) -> Vec<u8> {
    let mut block = block("/whole");
    if let Some(authority) = authority {
        block.extend([0x01, u8::try_from(authority.len()).unwrap()]);
        block.extend(authority);
    }
    if let Some(host) = host {
        block.extend(b"\x00\x04host");
        block.push(u8::try_from(host.len()).unwrap());
        block.extend(host);
    }
    frame(1, 5, 1, &block)
}

#[tokio::test]
async fn any_authority_is_served() {
    let authorities: [&[u8]; 12] = [
        b"",
        b"localhost",
        b"127.0.0.1:2379",
        b"[::1]:2379",
        // clientv3 3.5.0 (etcd's issue 13192)
        b"#initially=[http://127.0.0.1:2379;http://127.0.0.1:22379]",
        // Paths of unix sockets, as clients escape them or do not.
        b"%2Ftmp%2Fetcd.sock",
        b"/var/run/etcd.sock",
        b"unix:///var/run/etcd.sock",
        b"localhost:m10",
        b"user@host:1",
        b"a name with spaces, and more",
        "\u{fc}ber".as_bytes(),
    ];
    let cases = authorities
        .iter()
        .map(|authority| asked(Some(authority), None))
        .chain([
            asked(None, None),
            asked(None, Some(b"here")),
            asked(Some(b"here"), Some(b"there")),
        ]);
    for (at, request) in cases.enumerate() {
        let (mut far, _served) = start(config(), Echo::default());
        far.write_all(&[hello(), request].concat()).await.unwrap();
        let seen = loop {
            let seen = next(&mut far).await.unwrap();
            if seen.stream == 1 {
                break seen;
            }
        };
        assert_eq!(seen.kind, 1, "case {at}: {:?}", seen.payload);
        assert_eq!(seen.payload[0], 0x88, "case {at}: status 200");
    }
}
