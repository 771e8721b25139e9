/* Browsers refuse web workers on pages opened as files. The search's worker then runs in a hidden frame. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.frame = frame.contentWindow;
      window.addEventListener("message", (event) => {
        if (event.source !== this.frame) return;
        const copy = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(copy);
        if (this.onmessage) this.onmessage(copy);
      });
      const page = this.frame.document;
      page.open();
      page.write(
        "<script>window.postMessage = (data) => parent.postMessage(data, '*');" +
          "window.importScripts = (...urls) => Promise.all(urls.map((url) => new Promise((ready) => {" +
          "const script = document.createElement('script'); script.src = url; script.onload = ready;" +
          "document.head.appendChild(script); })));<" + "/script>" +
          '<script src="' + new URL(url, location.href) + '"><' + "/script>"
      );
      page.close();
      this.frame.addEventListener("load", () => {
        this.ready = true;
        for (const data of this.waiting) this.postMessage(data);
      });
    }
    postMessage(data) {
      if (!this.ready) this.waiting.push(data);
      else this.frame.dispatchEvent(new MessageEvent("message", { data, source: window }));
    }
    terminate() {
      this.frame.frameElement.remove();
    }
  };
}
