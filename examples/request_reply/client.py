"""A script that joins the shop which `grav-actors up` runs in this folder, asks, and prints the answers."""

from grav_actors import BusNotFoundError, Grav, HandlerError, NoRespondersError


def main() -> None:
    """Ask in the different ways there are."""
    with Grav(bus="auto") as grav:
        # To whoever handles the type.
        print("bolts:", grav.ask("stock.count", {"article": "bolt"}, timeout=2.0))

        # To one actor, by its name; that one asks a second one before it answers.
        till = grav.actor("till")
        print("sell 2 nuts:", till.ask("till.sell", {"article": "nut", "pieces": 2}, timeout=5.0))
        print("sell 2 nuts:", till.ask("till.sell", {"article": "nut", "pieces": 2}, timeout=5.0))

        # Several at once: each publish gives a receipt, and the answers wait for whoever wants them.
        receipts = [grav.publish("stock.count", {"article": article}) for article in ("bolt", "nut")]
        print("bolts and nuts:", [receipt.result(timeout=2.0).data for receipt in receipts])

        # A failure over there is an exception here, at once and with the remote traceback.
        try:
            grav.ask("stock.count", {"article": "anvil"}, timeout=2.0)
        except HandlerError as error:
            print("anvils:", type(error).__name__)

        # So is a question that nobody handles: no waiting for a timeout.
        try:
            grav.ask("weather.today", timeout=2.0)
        except NoRespondersError as error:
            print("weather:", type(error).__name__)


if __name__ == "__main__":
    try:
        main()
    except BusNotFoundError as error:
        raise SystemExit(f"{error}\nStart the shop first: grav-actors up") from error
