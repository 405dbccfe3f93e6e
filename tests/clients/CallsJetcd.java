import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.auth.Permission;
import io.etcd.jetcd.election.CampaignResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.CompactOption;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.grpc.netty.GrpcSslContexts;
import io.netty.handler.ssl.SslContext;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Every call of jetcd on members with mutual TLS. Arguments: ca certificate key host:port... */
public class CallsJetcd {
    static final long SECONDS = 20;

    static ByteSequence text(String text) {
        return ByteSequence.from(text, StandardCharsets.UTF_8);
    }

    static <T> T done(CompletableFuture<T> future) throws Exception {
        return future.get(SECONDS, TimeUnit.SECONDS);
    }

    static void is(boolean so, Object what) {
        if (!so) {
            throw new AssertionError(what);
        }
    }

    static SslContext tls;
    static List<URI> members = new ArrayList<>();

    static io.etcd.jetcd.ClientBuilder client(int first) {
        List<URI> order = new ArrayList<>(members.subList(first, members.size()));
        order.addAll(members.subList(0, first));
        return Client.builder().endpoints(order).sslContext(tls);
    }

    public static void main(String[] arguments) throws Exception {
        tls = GrpcSslContexts.forClient()
                .trustManager(new File(arguments[0]))
                .keyManager(new File(arguments[1]), new File(arguments[2]))
                .build();
        for (int index = 3; index < arguments.length; index++) {
            members.add(URI.create("https://" + arguments[index]));
        }
        try (Client one = client(0).build(); Client other = client(1).build()) {
            keys(one, other);
            leases(one, other);
            watches(one, other);
            locks(one, other);
            elections(one, other);
            maintenance(one);
            users(one);
        }
        System.out.println("every call on " + members.size() + " members");
        System.exit(0);
    }

    static String get(Client client, String key) throws Exception {
        List<KeyValue> found = done(client.getKVClient().get(text(key))).getKvs();
        return found.isEmpty() ? null : found.get(0).getValue().toString();
    }

    static void keys(Client one, Client other) throws Exception {
        long before = done(one.getKVClient().put(text("j/a"), text("1"))).getHeader().getRevision();
        is("1".equals(get(other, "j/a")), "a key");
        var again = done(one.getKVClient().put(text("j/a"), text("2"), PutOption.builder().withPrevKV().build()));
        is(again.getPrevKv().getValue().toString().equals("1"), again);
        for (int number = 0; number < 5; number++) {
            done(one.getKVClient().put(text("j/n" + number), text("" + number)));
        }
        var some = GetOption.builder().isPrefix(true).withLimit(2)
                .withSortField(GetOption.SortTarget.KEY).withSortOrder(GetOption.SortOrder.DESCEND).build();
        var found = done(other.getKVClient().get(text("j/n"), some));
        is(found.getCount() == 5 && found.isMore() && found.getKvs().get(0).getKey().toString().equals("j/n4"), found);
        var past = GetOption.builder().withRevision(before).build();
        is(done(other.getKVClient().get(text("j/a"), past)).getKvs().get(0).getValue().toString().equals("1"), "the past");
        var counted = GetOption.builder().isPrefix(true).withCountOnly(true).withSerializable(true).build();
        is(done(one.getKVClient().get(text("j/"), counted)).getCount() == 6, "a count");
        var txn = done(one.getKVClient().txn()
                .If(new Cmp(text("j/a"), Cmp.Op.EQUAL, CmpTarget.value(text("2"))))
                .Then(Op.put(text("j/b"), text("then"), PutOption.DEFAULT), Op.get(text("j/a"), GetOption.DEFAULT))
                .Else(Op.delete(text("j/a"), DeleteOption.DEFAULT))
                .commit());
        is(txn.isSucceeded() && txn.getPutResponses().size() == 1 && txn.getGetResponses().size() == 1, txn);
        var gone = done(one.getKVClient().delete(text("j/n"), DeleteOption.builder().isPrefix(true).withPrevKV(true).build()));
        is(gone.getDeleted() == 5 && gone.getPrevKvs().size() == 5, gone);
        long now = gone.getHeader().getRevision();
        done(one.getKVClient().compact(now, CompactOption.builder().withCompactPhysical(true).build()));
        try {
            done(other.getKVClient().get(text("j/a"), past));
            throw new AssertionError("a revision that is compacted was read");
        } catch (java.util.concurrent.ExecutionException refused) {
            is(refused.getMessage().contains("required revision has been compacted"), refused);
        }
    }

    static void leases(Client one, Client other) throws Exception {
        Lease leases = one.getLeaseClient();
        long id = done(leases.grant(60)).getID();
        done(one.getKVClient().put(text("j/leased"), text("x"), PutOption.builder().withLeaseId(id).build()));
        is(done(leases.keepAliveOnce(id)).getTTL() == 60, "renewed once");
        var beats = new LinkedBlockingQueue<Long>();
        try (var kept = leases.keepAlive(id, io.etcd.jetcd.support.Observers.observer(beat -> beats.add(beat.getTTL())))) {
            is(beats.poll(SECONDS, TimeUnit.SECONDS) == 60, "kept alive");
        }
        var left = done(other.getLeaseClient().timeToLive(id, LeaseOption.builder().withAttachedKeys().build()));
        is(left.getGrantedTTL() == 60 && left.getKeys().size() == 1, left);
        done(other.getLeaseClient().revoke(id));
        is(get(one, "j/leased") == null, "a key outlived its lease");
    }

    static void watches(Client one, Client other) throws Exception {
        BlockingQueue<WatchEvent> events = new LinkedBlockingQueue<>();
        long from = done(one.getKVClient().put(text("j/w0"), text("0"))).getHeader().getRevision();
        var options = WatchOption.builder().isPrefix(true).withRevision(from + 1).withPrevKV(true).build();
        try (Watch.Watcher watcher = one.getWatchClient().watch(text("j/w"), options, told -> events.addAll(told.getEvents()))) {
            done(other.getKVClient().put(text("j/w0"), text("1")));
            done(other.getKVClient().delete(text("j/w0")));
            WatchEvent put = events.poll(SECONDS, TimeUnit.SECONDS);
            is(put.getEventType() == WatchEvent.EventType.PUT && put.getPrevKV().getValue().toString().equals("0"), put);
            WatchEvent delete = events.poll(SECONDS, TimeUnit.SECONDS);
            is(delete.getEventType() == WatchEvent.EventType.DELETE, delete);
        }
    }

    static void locks(Client one, Client other) throws Exception {
        long mine = done(one.getLeaseClient().grant(60)).getID();
        long theirs = done(other.getLeaseClient().grant(60)).getID();
        ByteSequence key = done(one.getLockClient().lock(text("j/lock"), mine)).getKey();
        var waiting = other.getLockClient().lock(text("j/lock"), theirs);
        done(one.getLockClient().unlock(key));
        done(other.getLockClient().unlock(done(waiting).getKey()));
    }

    static void elections(Client one, Client other) throws Exception {
        long lease = done(one.getLeaseClient().grant(60)).getID();
        CampaignResponse won = done(one.getElectionClient().campaign(text("j/election"), lease, text("one")));
        done(one.getElectionClient().proclaim(won.getLeader(), text("two")));
        is(done(other.getElectionClient().leader(text("j/election"))).getKv().getValue().toString().equals("two"), "a leader");
        done(one.getElectionClient().resign(won.getLeader()));
    }

    static void maintenance(Client one) throws Exception {
        is(done(one.getClusterClient().listMember()).getMembers().size() == members.size(), "members");
        var maintenance = one.getMaintenanceClient();
        for (URI member : members) {
            var status = done(maintenance.statusMember(member.toString()));
            is(status.getVersion().startsWith("3.7.") && status.getDbSize() > 0, status);
            is(done(maintenance.hashKV(member.toString(), 0)).getHash() != 0, "a hash");
            done(maintenance.defragmentMember(member.toString()));
        }
        is(done(maintenance.listAlarms()).getAlarms().isEmpty(), "an alarm");
        var snapshot = new ByteArrayOutputStream();
        done(maintenance.snapshot(snapshot));
        is(snapshot.size() % 512 == 32, snapshot.size() + " bytes");
    }

    static void users(Client one) throws Exception {
        var auth = one.getAuthClient();
        done(auth.userAdd(text("root"), text("p")));
        done(auth.roleAdd(text("root")));
        done(auth.userGrantRole(text("root"), text("root")));
        done(auth.roleAdd(text("reader")));
        done(auth.roleGrantPermission(text("reader"), text("j/"), text("j0"), Permission.Type.READ));
        done(auth.userAdd(text("reader"), text("q")));
        done(auth.userGrantRole(text("reader"), text("reader")));
        is(done(auth.userList()).getUsers().size() == 2 && done(auth.roleList()).getRoles().size() == 2, "users and roles");
        is(done(auth.roleGet(text("reader"))).getPermissions().size() == 1, "a permission");
        done(auth.authEnable());
        try (Client reader = client(1).user(text("reader")).password(text("q")).build()) {
            is("2".equals(get(reader, "j/a")), "what may be read");
            try {
                done(reader.getKVClient().put(text("j/a"), text("3")));
                throw new AssertionError("a reader has written");
            } catch (java.util.concurrent.ExecutionException refused) {
                is(refused.getMessage().contains("permission denied"), refused);
            }
        }
        try (Client root = client(2).user(text("root")).password(text("p")).build()) {
            done(root.getAuthClient().userChangePassword(text("reader"), text("r")));
            done(root.getAuthClient().userRevokeRole(text("reader"), text("reader")));
            done(root.getAuthClient().roleRevokePermission(text("reader"), text("j/"), text("j0")));
            done(root.getAuthClient().userDelete(text("reader")));
            done(root.getAuthClient().roleDelete(text("reader")));
            done(root.getAuthClient().authDisable());
        }
    }
}
