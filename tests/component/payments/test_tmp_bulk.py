import time
from tests.component.payments.conftest import *
from tests.unit.payments.world import issued
from services.payments.usecases.collect_payments import CollectPayments
from services.payments.store.payments import PostgresPaymentStore
from services.payments.store.unit_of_work import PostgresWork
def timed(cls, name, acc):
    f=getattr(cls,name)
    async def g(*a,**k):
        t=time.perf_counter()
        try: return await f(*a,**k)
        finally: acc[name]=acc.get(name,0)+time.perf_counter()-t
    setattr(cls,name,g)
async def test_bulk(sandbox, logins, monkeypatch):
    acc={}
    for n in ("_start","_settle","_under_way"): timed(CollectPayments,n,acc)
    for n in ("lock_open","_lock_methods_and_invoices","save","add_attempts","save_attempts","_tokens"): timed(PostgresPaymentStore,n,acc)
    timed(PostgresWork,"announce",acc)
    for c in range(50): await sandbox.set_method("tok_ok", customer_id=f"c{c}")
    for b in range(4):
        await sandbox.hear(*(issued(f"inv_{b}_{n}", customer_id=f"c{n%50}", trace_parent=f"00-{n+1:032x}-b7ad6b7169203331-01") for n in range(500)))
    acc.clear()
    t=time.perf_counter(); n=await sandbox.collect(); print("collect", n, time.perf_counter()-t)
    print({k:round(v,2) for k,v in acc.items()})
